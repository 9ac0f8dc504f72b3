"""Whatever is written, indexed, killed and started again: the index is the fold of its feed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.documents import Document
from core.ranking_wish import OPEN, RankingWish
from core.vectors.kinds import IVF_SQ8
from core.vectors.settings import VectorSettings
from indexer import changes
from indexer.passages import windows
from tests.fakes import models
from tests.fakes.write_path import (
    Crash,
    Fuse,
    WritePath,
    contents_of,
    failing_at,
    terms_of,
    weights_of,
)

Result = TypeVar("Result")

IDS = st.sampled_from([f"doc-{number}" for number in range(6)])
WORDS = st.lists(st.sampled_from(["heart", "lung", "cell", "gene"]), min_size=1, max_size=60)


def expected_weights(text: str) -> list[dict[int, float]]:
    """The terms of every passage of a text without a title: windows of 32 tokens that share 8.

    The sparse encoder reads the passage's text with a tokenizer of its own: a window that begins
    within a word begins with other tokens there.
    """
    tokenizer = models.make_tokenizer()
    places = tokenizer.encode(text, add_special_tokens=False).offsets
    passages = [
        text[places[start][0] : places[end - 1][1]] for start, end in windows(len(places), 32, 8)
    ]
    read = [tokenizer.encode(passage, add_special_tokens=False).ids for passage in passages]
    found = [terms_of(np.array(ids, np.int32)) for ids in read]
    return [dict(zip(each.ids.tolist(), each.weights.tolist(), strict=True)) for each in found]


class WritePathModel(RuleBasedStateMachine):
    """`truth` maps the id of every live document to its version and text.

    `ranking` is how searches of the collection rank.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.path = self.run(self.create())
        self.truth: dict[str, tuple[int, str]] = {}
        self.ranking = OPEN
        self.writes: dict[str, int] = {}
        self.checked: set[str] = set()

    def create(self) -> Coroutine[Any, Any, WritePath]:
        """Tiny batches, fan-out and segments: few documents make many generations and merges.

        Segments are sealed from 4 passages on.
        """
        return WritePath.create(
            Path(self.directory.name),
            sparse=True,
            vector_index=VectorSettings(kind=IVF_SQ8, seal_rows=4),
            batch_documents=3,
            merge_fanout=2,
        )

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    @rule(ids=st.lists(IDS, min_size=1, max_size=5, unique=True), words=WORDS)
    def upsert(self, ids: list[str], words: list[str]) -> None:
        text = " ".join(words)
        receipt = self.run(self.path.upsert(*(Document(id=id, text=text) for id in ids)))
        for id, version in zip(ids, receipt.versions, strict=True):
            self.writes[id] = self.writes.get(id, 0) + 1
            assert version == self.writes[id]
            self.truth[id] = version, text

    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True))
    def delete(self, ids: list[str]) -> None:
        receipt = self.run(self.path.delete(*ids))
        gone = [id for id in ids if self.truth.pop(id, None)]
        for id in gone:
            self.writes[id] += 1
        assert receipt.count == len(gone)

    @rule(window=st.none() | st.integers(1, 9))
    def rank_by(self, window: int | None) -> None:
        self.ranking = RankingWish(window=window)
        self.run(self.path.rank_by(self.ranking))

    @rule()
    def index(self) -> None:
        self.run(self.path.index())
        self.check_current()

    def check_current(self) -> None:
        found = contents_of(self.path.files(), self.path.current())
        assert found == {id: version for id, (version, _) in self.truth.items()}
        weighed = weights_of(self.path.files(), self.path.current())
        assert weighed == {id: expected_weights(text) for id, (_, text) in self.truth.items()}
        assert self.path.current().search_defaults == self.ranking

    @rule(at=st.integers(1, 120))
    def die_while_indexing(self, at: int) -> None:
        with failing_at(Fuse(at)) as fuse:
            try:
                self.run(self.path.index())
            except Crash:
                assert fuse.blown

    @rule()
    def restart(self) -> None:
        self.run(self.path.close())
        self.path = self.run(self.create())

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.truth)))
        found = self.run(self.path.store.get("papers", id))
        assert found is not None
        assert (found.version, found.text) == self.truth[id]

    @invariant()
    def every_generation_is_the_fold_of_its_feed(self) -> None:
        feed = self.run(self.path.changes())
        files = self.path.files()
        for manifest in files.manifests():
            if manifest.name not in self.checked:
                covered = feed[: manifest.sequence]
                assert contents_of(files, manifest) == changes.contents(covered)
                assert covered == [] or covered[-1].chain == manifest.chain
                self.checked.add(manifest.name)

    def teardown(self) -> None:
        self.run(self.path.index())
        self.check_current()
        self.run(self.path.close())
        self.runner.close()
        self.directory.cleanup()


WritePathModel.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWritePath = WritePathModel.TestCase
