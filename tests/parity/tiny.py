"""Small random transformers and their tokenizers, written as transformers writes them.

Weights are drawn wide, so that texts differ much: with the library's narrow ones every text has
nearly the same vector, and nothing could tell a wrong model from a right one.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers.utils import logging

HIDDEN = 32
LONGEST = 48
_SHAPE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}
_BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA_SPECIAL = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


@dataclass(frozen=True)
class Architecture:
    """One kind of transformer: its class names, its tokenizer, what is special in its config."""

    prefix: str
    tokenizer: Callable[[], Tokenizer]
    special: dict[str, str]
    config: dict[str, Any]
    types: bool = False

    def config_for(self, vocabulary: int, **more: Any) -> Any:
        """The configuration, with `more` settings."""
        pad = list(self.special).index("pad")
        settings = {**_SHAPE, "vocab_size": vocabulary, "pad_token_id": pad, **self.config, **more}
        return getattr(transformers, f"{self.prefix}Config")(**settings)


def word_pieces() -> Tokenizer:
    """Lower-casing WordPiece over letters, as BERT's."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*_BERT_SPECIAL.values(), *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_template(tokenizer, "[CLS]", ["[SEP]"], types=True)


def bytes_of_text() -> Tokenizer:
    """Byte-level BPE without merges, as RoBERTa's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*_ROBERTA_SPECIAL.values(), *alphabet]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _with_template(tokenizer, "<s>", ["</s>", "</s>"], types=False)


def sentence_pieces() -> Tokenizer:
    """A unigram model over letters, as XLM-R's."""
    letters = string.ascii_letters + string.digits + string.punctuation + "▁"
    scored = [(token, 0.0) for token in _ROBERTA_SPECIAL.values()]
    scored += [(letter, -5.0 - number / 100) for number, letter in enumerate(letters)]
    unknown = list(_ROBERTA_SPECIAL).index("unk")
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _with_template(tokenizer, "<s>", ["</s>", "</s>"], types=False)


ARCHITECTURES = {
    "bert": Architecture(
        "Bert", word_pieces, _BERT_SPECIAL, {"max_position_embeddings": LONGEST}, types=True
    ),
    "electra": Architecture(
        "Electra",
        word_pieces,
        _BERT_SPECIAL,
        {"max_position_embeddings": LONGEST, "embedding_size": HIDDEN},
        types=True,
    ),
    "distilbert": Architecture(
        "DistilBert",
        word_pieces,
        _BERT_SPECIAL,
        {"max_position_embeddings": LONGEST, "dim": HIDDEN, "n_layers": 2, "n_heads": 4}
        | {"hidden_dim": 64},
    ),
    "mpnet": Architecture(
        "MPNet", bytes_of_text, _ROBERTA_SPECIAL, {"max_position_embeddings": LONGEST + 2}
    ),
    "roberta": Architecture(
        "Roberta",
        bytes_of_text,
        _ROBERTA_SPECIAL,
        {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1},
    ),
    "xlm-roberta": Architecture(
        "XLMRoberta",
        sentence_pieces,
        _ROBERTA_SPECIAL,
        {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1},
    ),
    "modernbert": Architecture(
        "ModernBert",
        bytes_of_text,
        _ROBERTA_SPECIAL,
        {"max_position_embeddings": LONGEST, "local_attention": 8, "global_attn_every_n_layers": 2}
        | {"cls_token_id": 0, "bos_token_id": 0, "sep_token_id": 2, "eos_token_id": 2},
    ),
    "deberta-v2": Architecture(
        "DebertaV2",
        sentence_pieces,
        _ROBERTA_SPECIAL,
        {"max_position_embeddings": LONGEST, "type_vocab_size": 0, "relative_attention": True}
        | {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "position_buckets": 8},
    ),
}


def write_transformer(
    directory: Path, architecture: str, *, head: str = "Model", seed: int = 17, **settings: Any
) -> Path:
    """Writes the model `<prefix><head>` with its tokenizer into `directory` and returns it."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind = ARCHITECTURES[architecture]
    tokenizer = kind.tokenizer()
    torch.manual_seed(seed)
    config = kind.config_for(tokenizer.get_vocab_size(), **settings)
    getattr(transformers, f"{kind.prefix}{head}")(config).save_pretrained(directory)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * kind.types
    transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        model_input_names=names,
        **{f"{role}_token": token for role, token in kind.special.items()},
    ).save_pretrained(directory)
    return directory


def save_sentence_model(
    directory: Path,
    *,
    architecture: str = "bert",
    mode: Any = "mean",
    dense: bool = False,
    max_seq_length: int | None = None,
    seed: int = 17,
    **about: Any,
) -> Path:
    """Saves a normalising SentenceTransformer as the library does, and returns `directory`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    trunk = write_transformer(directory / "trunk", architecture, seed=seed)
    pooling = Pooling(HIDDEN, mode)
    modules = [Transformer(str(trunk), max_seq_length=max_seq_length), pooling]
    modules += [Dense(pooling.pooling_output_dimension, 12)] if dense else []
    model = SentenceTransformer(modules=[*modules, Normalize()], device="cpu", **about)
    model.save(str(directory), create_model_card=False)
    return directory


def _with_template(
    tokenizer: Tokenizer, first: str, between: list[str], *, types: bool
) -> Tokenizer:
    second = ":1" if types else ""
    last = between[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {' '.join(between)} $B{second} {last}{second}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer
