"""Versions of one model side by side: what they share, what is theirs, which number is next.

All versions stand in one config.pbtxt. A parameter `key@N` holds for version N, the plain `key`
for every version without one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from core.errors import BadEnvironment, ModelMismatch

OWN = ("fingerprint", "precision", "model_name", "padding")
_SHARED = (
    *("kind", "dimension", "max_length", "recommended_length", "inputs", "tokenizer_sha256"),
    *("similarity", "normalize", "query_prompt", "document_prompt"),
    *("activation", "labels", "relevance_label", "top_terms"),
)
_HALVES = frozenset({"fp16", "bf16"})


@dataclass(frozen=True, slots=True)
class Stored:
    """What the repository has of a model: parameters and the versions with a model.pt."""

    name: str
    parameters: Mapping[str, str]
    versions: tuple[int, ...]

    def own(self, version: int) -> dict[str, str]:
        """The parameters of one version alone."""
        plain = {key: self.parameters.get(key, "") for key in OWN}
        own = {key: self.parameters.get(f"{key}@{version}", plain[key]) for key in OWN}
        return {**own, "precision": own["precision"] or "fp32"}


def read_stored(directory: Path) -> Stored:
    """What stands in the model's directory, which need not exist; raises BadEnvironment."""
    path = directory / "config.pbtxt"
    versions = sorted(int(model.parent.name) for model in directory.glob("[1-9]*/model.pt"))
    if not path.exists():
        return Stored(directory.name, {}, ())
    parameters = parse_config(path).parameters
    values = {key: value.string_value for key, value in parameters.items()}
    return Stored(directory.name, values, tuple(versions))


def parse_config(path: Path) -> model_config_pb2.ModelConfig:
    """The message in a config.pbtxt; raises BadEnvironment."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except OSError as error:
        raise BadEnvironment(f"cannot be read: {error.strerror}", field=str(path)) from error
    except text_format.ParseError as error:
        raise BadEnvironment(f"is no Triton config: {error}", field=str(path)) from error


def choose_version(stored: Stored, wanted: str, own: Mapping[str, str]) -> int:
    """The number to export under: `wanted`, or that of the same model, or the next one.

    Raises BadEnvironment if `wanted` is no number, or is that of another model.
    """
    known = {number: stored.own(number)["fingerprint"] for number in stored.versions}
    same = [number for number, fingerprint in known.items() if fingerprint == own["fingerprint"]]
    if not wanted:
        return same[-1] if same else max(known, default=0) + 1
    if not wanted.isdecimal() or wanted.startswith("0"):
        raise BadEnvironment(
            f"is {wanted!r}, not a whole number from 1", field="version", remedy="leave it out"
        )
    number = int(wanted)
    if known.get(number, own["fingerprint"]) != own["fingerprint"]:
        raise BadEnvironment(
            f"{number} of {stored.name} is another model, which collections may be using",
            field="version",
            remedy="leave the version out to get the next free one",
        )
    return number


def with_version(
    stored: Stored, version: int, shared: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """The parameters of all versions once `version` is there.

    Raises ModelMismatch if another version differs in what all of them must share.
    """
    others = {number: stored.own(number) for number in stored.versions if number != version}
    if others:
        _check_shared(stored, shared)
        _check_devices(
            stored.name, {own["precision"]} | {it["precision"] for it in others.values()}
        )
    (_, oldest), *rest = sorted((others | {version: dict(own)}).items())
    parameters = {**shared, **oldest}
    for number, values in rest:
        parameters |= {f"{key}@{number}": value for key, value in values.items()}
    return parameters


def runs_on_cpu_only(parameters: Mapping[str, str]) -> bool:
    """Whether a version is int8, whose kernels exist for CPUs alone."""
    return "int8" in _precisions(parameters)


def _check_shared(stored: Stored, shared: Mapping[str, str]) -> None:
    for key in _SHARED:
        before, now = stored.parameters.get(key), shared.get(key)
        if before is not None and now is not None and before != now:
            raise ModelMismatch(
                f"its other versions have {key} {before!r}, this one has {now!r}",
                field=stored.name,
                remedy="give it another name",
            )


def _check_devices(name: str, precisions: set[str]) -> None:
    if "int8" in precisions and _HALVES & precisions:
        raise ModelMismatch(
            "int8 runs on CPUs only, fp16 and bf16 are for GPUs, and all versions share a device",
            field=name,
            remedy="give it another name",
        )


def _precisions(parameters: Mapping[str, str]) -> set[str]:
    return {value for key, value in parameters.items() if key.partition("@")[0] == "precision"}
