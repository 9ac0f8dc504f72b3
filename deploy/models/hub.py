"""A model's name to a directory: a path as it is, a hub id by downloading it."""

from __future__ import annotations

from pathlib import Path

from core.errors import BadEnvironment
from deploy.models.model_files import UnsupportedModel

# Weights in other frameworks' formats would be downloaded for nothing.
_SKIPPED = ("*.onnx", "*.ot", "*.h5", "*.msgpack", "onnx/*", "openvino/*", "*.gguf")


def local_directory(source: str) -> Path:
    """The directory that `source` names; a hub id ("owner/name") is fetched or found in the cache.

    Raises UnsupportedModel if it is neither, BadEnvironment if the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or source.count("/") != 1 or source[0] in "./~":
        raise UnsupportedModel(
            "is no directory",
            field=source,
            remedy="give a directory that sentence-transformers saved, or a hub id (owner/name)",
        )
    return _download(source)


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, ignore_patterns=list(_SKIPPED)))
    except Exception as error:  # the hub's client lets many kinds of network failure through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadEnvironment(
            f"cannot be fetched from the Hugging Face hub: {reason}",
            field=source,
            remedy="check the name and the network, or give a directory with the model",
        ) from error
