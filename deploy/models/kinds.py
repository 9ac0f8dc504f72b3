"""Which kind of model a directory holds, found by looking at its JSON files."""

from __future__ import annotations

from pathlib import Path

from deploy.models.model_files import UnsupportedModel, read_json
from deploy.models.modules import read_steps
from deploy.models.sentence_model import library_config

_LIBRARY_KINDS = {
    "SentenceTransformer": "bi_encoder",
    "CrossEncoder": "cross_encoder",
    "SparseEncoder": "sparse_encoder",
}


def kind_of(directory: Path) -> str:
    """One of core.model_info.KINDS; raises UnsupportedModel where there is none to be found."""
    modules, config = directory / "modules.json", directory / "config.json"
    if not modules.exists() and not config.exists():
        raise UnsupportedModel(
            "has neither modules.json nor config.json",
            field=str(directory),
            remedy="give a directory that sentence-transformers saved",
        )
    named = library_config(directory).get("model_type")
    if named is not None and named not in _LIBRARY_KINDS:
        raise UnsupportedModel(f"cannot export a {named}", field=str(directory))
    if modules.exists():
        if any(step.kind == "SpladePooling" for step in read_steps(directory)):
            return "sparse_encoder"
        return _LIBRARY_KINDS[named or "SentenceTransformer"]
    names = read_json(config).get("architectures") or [""]
    if str(names[0]).endswith("ForSequenceClassification"):
        return "cross_encoder"
    raise UnsupportedModel(
        "has no modules.json, and config.json names no classifier of pairs",
        field=str(directory),
        remedy="open it with sentence-transformers, choose a pooling, and save it",
    )
