"""Models into Triton's repository: TorchScript, tokenizer, configuration.

    plan -> which version? -> is it there already? -> trace and check -> tokenizer -> configuration
    -> model.pt

PyTorch is imported only to trace, so that an up-to-date repository costs no more than hashing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadEnvironment, NotFound
from core.fsops import make_directory, replace_file
from deploy.models.hub import local_directory
from deploy.models.kinds import kind_of
from deploy.models.model_files import UnsupportedModel
from deploy.models.plans import (
    Plan,
    plan_bi_encoder,
    plan_default_bi_encoder,
    plan_pair_classifier,
    plan_reranker,
    plan_sparse_encoder,
)
from deploy.models.sentence_model import read_sentence_model
from deploy.models.triton_config import ModelConfig, config_text
from deploy.models.versions import choose_version, read_stored, runs_on_cpu_only, with_version

VERSION = "1"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DEFAULT_PRECISION = "fp32"

# Raise it when the same files are traced into something else.
_TRACE_FORMAT = "5"
_MADE_OF = "made_of"
# What Triton runs before it calls a model ready: rows, tokens.
_TEXT_SHAPES = ((1, 16), (8, 64), (8, 256))
_PAIR_SHAPES = ((1, 64), (8, 128), (8, 256))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# How to plan each shipped model, and the precision of its version 1.
_SHIPPED: dict[str, tuple[Callable[[str], Plan], str]] = {
    "bi_encoder": (plan_default_bi_encoder, "fp32"),
    "cross_encoder": (plan_reranker, "int8"),
}


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


def export_all(
    repository: Path, *, only: Collection[str] | None = None, precision: str = ""
) -> list[ExportedModel]:
    """Export the default bi-encoder and the shipped reranker, or those named in `only`.

    They are version 1, the encoder in fp32 and the reranker in int8, and put right where they are
    outdated; a given `precision` is exported as a further version. Raises NotFound for an unknown
    name.
    """
    chosen = list(_SHIPPED) if only is None else sorted(only)
    if unknown := sorted(set(chosen) - set(_SHIPPED)):
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"there is no model {', '.join(unknown)}",
            field="only",
            remedy=f"name one of {', '.join(_SHIPPED)}",
        )
    if precision:
        _check(precision=precision)
        return [export(_SHIPPED[name][0](precision), repository) for name in chosen]
    shipped = [_SHIPPED[name] for name in chosen]
    return [export(plan(own), repository, version=VERSION, replace=True) for plan, own in shipped]


def export_directory(
    repository: Path,
    source: Path | str,
    *,
    name: str,
    version: str = "",
    precision: str = DEFAULT_PRECISION,
) -> ExportedModel:
    """Export what sentence-transformers saved in `source` (or a hub id) as the model `name`.

    Its kind is found by looking. `version` "" is the version that already is this model, or the
    next one. Raises BadEnvironment (UnsupportedModel) naming what cannot be exported, and
    ModelMismatch if versions of `name` differ in what they must share; nothing is written then.
    """
    _check(name=name, precision=precision)
    directory = local_directory(str(source))
    called = directory.name if Path(source).is_dir() else str(source)
    try:
        plan = _plan(directory, name, precision, called)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnsupportedModel(
            f"its JSON files are not what sentence-transformers writes: {error!r}",
            field=str(directory),
        ) from error
    return export(plan, repository, version=version)


def _plan(directory: Path, name: str, precision: str, model_name: str) -> Plan:
    kind = kind_of(directory)
    if kind == "bi_encoder":
        return plan_bi_encoder(read_sentence_model(directory, model_name), name, precision)
    planner = {"cross_encoder": plan_pair_classifier, "sparse_encoder": plan_sparse_encoder}
    return planner[kind](directory, name, precision, model_name)


def export(
    plan: Plan, repository: Path, *, version: str = "", replace: bool = False
) -> ExportedModel:
    """Write what is missing or differs. model.pt comes last: Triton serves only models with one.

    `replace` lets `version` be another model than before.
    """
    directory = repository / plan.name
    stored = read_stored(directory)
    number = int(version) if replace else choose_version(stored, version, plan.own)
    config = _config(plan, with_version(stored, number, plan.shared, plan.own))
    model = directory / str(number) / "model.pt"
    made_of = f"{plan.fingerprint}:{_TRACE_FORMAT}"
    files = {directory / "tokenizer.json": plan.tokenizer, directory / "config.pbtxt": config}
    stale = [path for path, data in files.items() if _bytes_of(path) != data]
    traced = _trace(plan, made_of) if _made_of(model) != made_of else None
    make_directory(model.parent)
    for path in stale:
        replace_file(path, files[path])
    if traced is not None:
        replace_file(model, traced)
    written = bool(stale) or traced is not None
    return ExportedModel(plan.name, str(number), plan.fingerprint, written)


def _trace(plan: Plan, made_of: str) -> bytes:
    from deploy.models.building import build

    return build(plan, {_MADE_OF: made_of})


def _config(plan: Plan, parameters: dict[str, str]) -> bytes:
    longest = int(plan.shared["max_length"])
    shapes = _PAIR_SHAPES if plan.kind == "cross_encoder" else _TEXT_SHAPES
    config = ModelConfig(
        name=plan.name,
        inputs=plan.inputs,
        output_width=plan.width,
        max_batch_size=64,
        warmup=tuple(dict.fromkeys((rows, min(tokens, longest)) for rows, tokens in shapes)),
        parameters=parameters,
        cpu_only=runs_on_cpu_only(parameters),
    )
    return config_text(config).encode()


def _check(*, name: str = "model", precision: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadEnvironment(
            f"{name!r} cannot be a model's name",
            field="name",
            remedy="use letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    if precision not in PRECISIONS:
        raise BadEnvironment(
            f"there is no precision {precision!r}",
            field="precision",
            remedy=f"choose one of {', '.join(PRECISIONS)}",
        )


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
