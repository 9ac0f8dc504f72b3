"""Whether Triton answers what the very same model answers in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.batching import Batch, Piece, padded_length
from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder, SparseEncoder
from core.errors import BadEnvironment, BadModelOutput
from core.tokens import Tokens
from core.triton import TritonClient
from deploy.models.tracing import load

SECONDS = 60.0
# Other kernels and sums in another order; fp16 and bf16 on a GPU keep 11 and 8 bits.
TOLERANCES = {"fp32": 1e-4, "int8": 1e-3, "fp16": 5e-3, "bf16": 2e-2}
TEXTS = (
    "a",
    "The owl hunts at night.",
    "Interest rates rose in the third quarter; analysts had expected them to fall.",
    "Ein Satz auf Deutsch, mit Umlauten: Übermäßige Größe.",
    "def main() -> int: return 0  # a line of code",
    "numbers 1234567890, symbols §±≠, and an emoji 🦉",
    "a long text about how an owl hunts mice at night in the quiet forest " * 40,
)

Floats = NDArray[np.float32]
Model = Encoder | SparseEncoder | CrossEncoder


@dataclass(frozen=True, slots=True)
class Verified:
    """How far Triton's answers are from the reference, the worst of all texts.

    `cosine` is that of vectors (sparse ones too), or of the rows of logits; `difference` the
    largest absolute one of a component.
    """

    model: str
    reference: str
    texts: int
    cosine: float
    difference: float
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether every answer is within the tolerance."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "the same" if self.good else "NOT the same"
        return (
            f"{self.model} is {verdict} as {self.reference} over {self.texts} texts: "
            f"cosine >= {self.cosine:.6f}, difference <= {self.difference:.2g} "
            f"(tolerance {self.tolerance:g})"
        )


async def verify_model(
    triton_address: str, repository: Path, name: str, version: str, against: str = ""
) -> Verified:
    """Compares Triton with the traced model of `repository`, or with what the library makes.

    `against` is a directory or hub id for sentence-transformers. On the way the kind, the
    tokenizer's digest, the output's width and finiteness are checked: raises ModelMismatch,
    BadModelOutput, NotFound, TritonUnavailable, or BadEnvironment if model.pt cannot be loaded.
    """
    client = TritonClient.create(triton_address)
    try:
        model = await _open(client, name, version, repository)
        served = np.concatenate([await _served(model, text) for text in TEXTS])
    finally:
        await client.stop(0)
    if against:
        expected, reference = _library(model, against), against
    else:
        traced = _load(repository / name / model.info.version / "model.pt")
        expected = np.concatenate([_traced(model, traced, text) for text in TEXTS])
        reference = "its model.pt in this process"
    lengths = np.linalg.norm(served, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (served * expected).sum(axis=1) / np.maximum(lengths, 1e-12)
    return Verified(
        model=f"{name}:{model.info.version}",
        reference=reference,
        texts=len(TEXTS),
        cosine=float(cosines.min()),
        difference=float(np.abs(served - expected).max()),
        tolerance=TOLERANCES.get(model.info.precision, TOLERANCES["fp32"]),
    )


async def _open(client: TritonClient, name: str, version: str, repository: Path) -> Model:
    info = await client.model_info(name, version, Deadline.after(SECONDS))
    kinds: dict[str, type[Model]] = {
        kind.kind: kind for kind in (Encoder, SparseEncoder, CrossEncoder)
    }
    kind = kinds[info.kind]
    return await kind.create(client, name, info.version, repository, Deadline.after(SECONDS))


async def _served(model: Model, text: str) -> Floats:
    """Triton's answer for one text, as one row."""
    deadline = Deadline.after(SECONDS)
    tokens = _tokens(model, text)
    if isinstance(model, CrossEncoder):
        return await model.logits(_query(model), [tokens.ids], deadline)
    if isinstance(model, Encoder):
        prompt = model.prompt_tokens(query=False)
        return await model.encode([tokens.ids], deadline, prompt_tokens=prompt)
    (terms,) = await model.encode([tokens.ids], deadline)
    row = np.zeros((1, model.info.dimension), dtype=np.float32)
    row[0, terms.ids] = terms.weights
    return row


def _tokens(model: Model, text: str) -> Tokens:
    prompt = "" if isinstance(model, CrossEncoder) else model.info.document_prompt
    return model.tokenizer.encode(prompt + text)


def _query(model: Model) -> NDArray[np.int32]:
    return model.tokenizer.encode(TEXTS[1]).ids


def _traced(model: Model, traced: Any, text: str) -> Floats:
    """The traced model's answer for one text: one row, made without core.encoding."""
    ids, types, prompt = _whole(model, text)
    length = padded_length(len(ids), model.info.max_length)
    batch = Batch(Piece((0,), length), model.tokenizer.pad_id)
    batch.ids[0, : len(ids)] = ids
    batch.types[0, : len(ids)] = types
    batch.mask[0, : len(ids)] = 1
    batch.pooling_mask[0, prompt : len(ids)] = 1
    tensors = [torch.from_numpy(each) for each in batch.tensors(model.info.inputs)]
    try:
        with torch.inference_mode():
            output: Floats = traced(*tensors).float().numpy().reshape(1, -1)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BadModelOutput(f"model.pt of {model.info.name} does not run: {reason}") from error
    if output.shape[1] != model.info.width:
        raise BadModelOutput(
            f"model.pt of {model.info.name} returned {output.shape[1]} numbers, "
            f"its configuration says {model.info.width}"
        )
    if not isinstance(model, SparseEncoder):
        return output
    row = np.zeros((1, model.info.dimension), dtype=np.float32)
    terms = model.info.top_terms
    row[0, output[0, :terms].astype(np.int64)] = output[0, terms:]
    return row


def _whole(model: Model, text: str) -> tuple[list[int], list[int], int]:
    """Ids with special tokens, their types, and how many at the front are not pooled."""
    ids = _tokens(model, text).ids
    longest = model.info.max_length
    if isinstance(model, CrossEncoder):
        pair = model.tokenizer.pair
        head = [*pair.before, *_query(model), *pair.between]
        rest = [*ids[: longest - len(head) - len(pair.after)], *pair.after]
        return head + rest, [pair.types[0]] * len(head) + [pair.types[1]] * len(rest), 0
    single = model.tokenizer.single
    whole = [*single.before, *ids[: longest - single.count], *single.after]
    prompt = model.prompt_tokens(query=False)
    return whole, [0] * len(whole), len(single.before) + prompt if prompt else 0


def _load(path: Path) -> Any:
    try:
        return load(path.read_bytes()).eval()
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise BadEnvironment(
            f"cannot be loaded: {first}", field=str(path), remedy="export the model again"
        ) from error


def _library(model: Model, against: str) -> Floats:
    """What sentence-transformers makes of the texts: vectors, terms' weights, or logits."""
    import sentence_transformers

    texts = list(TEXTS)
    if isinstance(model, CrossEncoder):
        judge = sentence_transformers.CrossEncoder(against)
        pairs = [(TEXTS[1], text) for text in texts]
        logits = judge.predict(pairs, activation_fn=torch.nn.Identity())
        return np.asarray(logits, dtype=np.float32).reshape(len(texts), -1)
    if isinstance(model, SparseEncoder):
        sparse = sentence_transformers.SparseEncoder(against)
        terms = sparse.encode_document(
            texts, convert_to_sparse_tensor=False, max_active_dims=model.info.top_terms
        )
        return np.asarray(terms, dtype=np.float32)
    dense = sentence_transformers.SentenceTransformer(against)
    return np.asarray(dense.encode_document(texts), dtype=np.float32)
