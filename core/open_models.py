"""Models by name and version, opened at their first use and kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Generic, TypeVar

from core.deadline import Deadline
from core.encoding import ServedModel
from core.errors import ModelMismatch
from core.triton import TritonClient

# A newly loaded version is used this soon by those who ask for the newest; asking takes about 1 ms.
_NEWEST_SECONDS = 2.0

ModelT = TypeVar("ModelT", bound=ServedModel)


class OpenModels(Generic[ModelT]):
    """The models of one kind that Triton serves."""

    def __init__(self, kind: type[ModelT], triton: TritonClient, model_directory: Path) -> None:
        self._kind: type[ModelT] = kind
        self._triton = triton
        self._model_directory = model_directory
        self._known: dict[tuple[str, str], ModelT] = {}
        self._newest: dict[str, tuple[str, Deadline]] = {}
        self._opening = asyncio.Lock()

    async def get(
        self, name: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> ModelT:
        """A model in a version, or in the newest that Triton serves ("").

        Raises ModelMismatch if it is of another kind, or has another fingerprint than a given one,
        NotFound (MODEL_NOT_FOUND), TritonUnavailable or OutOfTime.
        """
        version = version or await self._newest_version(name, deadline)
        model = self._known.get((name, version))
        if model is None:
            async with self._opening:
                model = self._known.get((name, version)) or await self._open(
                    name, version, deadline
                )
        if fingerprint in ("", model.info.fingerprint):
            return model
        self.forget(name, version)
        raise ModelMismatch(
            f"Triton serves {name}:{version} with fingerprint {model.info.fingerprint[:12]}, the "
            f"collection was built with {fingerprint[:12]}",
            field=name,
            remedy="serve the version that the collection was built with",
        )

    def forget(self, name: str, version: str) -> None:
        """Asks Triton anew next time: after a failure it may serve something else."""
        self._known.pop((name, version), None)
        self._newest.pop(name, None)

    async def _newest_version(self, name: str, deadline: Deadline) -> str:
        version, fresh_until = self._newest.get(name, ("", Deadline(0.0)))
        if fresh_until.remaining():
            return version
        if version:  # others go on with what was the newest, instead of asking as well
            self._newest[name] = (version, Deadline.after(_NEWEST_SECONDS))
        version = (await self._triton.model_info(name, "", deadline)).version
        self._newest[name] = (version, Deadline.after(_NEWEST_SECONDS))
        return version

    async def _open(self, name: str, version: str, deadline: Deadline) -> ModelT:
        model = await self._kind.create(
            self._triton, name, version, self._model_directory, deadline
        )
        self._known[name, version] = model
        return model

    def __repr__(self) -> str:
        return f"<OpenModels {self._kind.__name__}, {len(self._known)} open>"
