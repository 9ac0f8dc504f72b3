"""What the fake models answer: hashes of words, so that texts which share words are alike."""

from __future__ import annotations

import hashlib
import itertools
import string
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
DIMENSION = 64
TOP_TERMS = 32
Word = tuple[int, ...]


@dataclass(frozen=True)
class FakeModel:
    """A model of the fake server; `parameters` are further ones of its config.pbtxt."""

    name: str
    kind: str
    dimension: int
    max_length: int
    similarity: str
    input_count: int
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def normalize(self) -> bool:
        """Whether its vectors have length 1."""
        return self.similarity == "cosine"


def _vocabulary() -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits
    pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    words = [*letters, *pairs, *string.punctuation]
    tokens = [*SPECIAL, *words, *(f"##{word}" for word in (*letters, *pairs))]
    return {token: number for number, token in enumerate(tokens)}


VOCABULARY = _vocabulary()
MODELS = (
    FakeModel("bi_encoder", "bi_encoder", DIMENSION, 256, "cosine", 2),
    FakeModel("bi_dot", "bi_encoder", DIMENSION, 256, "dot", 2),
    FakeModel("bi_euclidean", "bi_encoder", DIMENSION, 256, "euclidean", 2),
    FakeModel("bi_manhattan", "bi_encoder", DIMENSION, 256, "manhattan", 2),
    FakeModel(
        "bi_prompted",
        "bi_encoder",
        DIMENSION,
        32,
        "cosine",
        2,
        (("query_prompt", "query: "), ("document_prompt", "passage: ")),
    ),
    FakeModel("cross_encoder", "cross_encoder", 1, 512, "", 3),
    FakeModel(
        "cross_nli",
        "cross_encoder",
        3,
        64,
        "",
        3,
        (("activation", "softmax"), ("labels", "contradiction,entailment,neutral")),
    ),
    FakeModel("sparse_encoder", "sparse_encoder", len(VOCABULARY), 256, "dot", 2),
)
_FIRST_CONTINUATION = min(number for word, number in VOCABULARY.items() if word.startswith("##"))


def make_tokenizer() -> Tokenizer:
    """A lower-casing WordPiece tokenizer over letters and pairs of letters."""
    tokenizer = Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def write_fake_models(directory: Path) -> Path:
    """Writes `<model>/tokenizer.json` of every fake model under `directory` and returns it."""
    for model in MODELS:
        path = directory / model.name / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tokenizer_bytes())
    return directory


@lru_cache
def tokenizer_bytes() -> bytes:
    """The content of the fake models' tokenizer.json."""
    return make_tokenizer().to_str().encode()


def words_of(ids: NDArray[np.int64]) -> list[Word]:
    """Joins the pieces of each word; special tokens are left out."""
    words: list[list[int]] = []
    for token in ids.tolist():
        if token >= _FIRST_CONTINUATION and words:
            words[-1].append(token)
        elif token == VOCABULARY["[UNK]"] or token >= len(SPECIAL):
            words.append([token])
    return [tuple(word) for word in words]


def words_of_text(text: str) -> list[Word]:
    """The words of a text as the models see them."""
    ids = make_tokenizer().encode(text, add_special_tokens=False).ids
    return words_of(np.array(ids, dtype=np.int64))


def embed(
    ids: NDArray[np.int64], mask: NDArray[np.int64], version: str, *, normalize: bool = True
) -> NDArray[np.float32]:
    """The sum of each text's words' random directions, made 1 long: float32 [n, DIMENSION]."""
    rows = np.zeros((len(ids), DIMENSION), dtype=np.float32)
    for row, text, seen in zip(rows, ids, mask, strict=True):
        row[:] = _direction((), version)  # so that a text without words has a direction too
        for word in words_of(text[seen == 1]):
            row += 10 * _direction(word, version)
        if normalize:
            row /= np.linalg.norm(row)
    return rows


def score(
    ids: NDArray[np.int64], mask: NDArray[np.int64], types: NDArray[np.int64]
) -> NDArray[np.float32]:
    """From -5 (no word of the query is in the passage) to 5 (every word is): float32 [n, 1]."""
    logits = []
    for text, seen, side in zip(ids, mask, types, strict=True):
        query = set(words_of(text[(seen == 1) & (side == 0)]))
        passage = set(words_of(text[(seen == 1) & (side == 1)]))
        logits.append(10 * len(query & passage) / max(1, len(query)) - 5)
    return np.array(logits, dtype=np.float32)[:, None]


def judge(
    ids: NDArray[np.int64], mask: NDArray[np.int64], types: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Contradiction is entailment's opposite, neutral is 0: float32 [n, 3]."""
    entailment = score(ids, mask, types)
    return np.concatenate([-entailment, entailment, np.zeros_like(entailment)], axis=1)


def weigh(ids: NDArray[np.int64], mask: NDArray[np.int64], version: str) -> NDArray[np.float32]:
    """The TOP_TERMS heaviest tokens' ids, then their weights: float32 [n, 2 * TOP_TERMS].

    A token weighs log(1 + its count) times a number between 1 and 2 of its own.
    """
    rows = np.zeros((len(ids), 2 * TOP_TERMS), dtype=np.float32)
    for row, text, seen in zip(rows, ids, mask, strict=True):
        terms, counts = np.unique(text[(seen == 1) & (text >= len(SPECIAL))], return_counts=True)
        weights = np.log1p(counts) * [_rarity(int(term), version) for term in terms]
        heaviest = np.argsort(-weights, kind="stable")[:TOP_TERMS]
        row[: len(heaviest)] = terms[heaviest]
        row[TOP_TERMS : TOP_TERMS + len(heaviest)] = weights[heaviest]
    return rows


def _rarity(term: int, version: str) -> float:
    digest = hashlib.sha256(f"{version}:{term}".encode()).digest()
    return 1 + digest[0] / 255


@lru_cache(maxsize=100_000)
def _direction(word: Word, version: str) -> NDArray[np.float32]:
    seed = hashlib.sha256(f"{version}:{word}".encode()).digest()
    values = np.random.default_rng(int.from_bytes(seed[:8], "big")).standard_normal(DIMENSION)
    return (values / np.linalg.norm(values)).astype(np.float32)
