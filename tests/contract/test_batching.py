"""The sweep of batching settings in a real Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadEnvironment
from deploy.load.batching import Work, sweep
from deploy.load.choice import Setting
from deploy.local.cluster import MODEL_REPOSITORY
from tests.contract.conftest import missing, triton_config

MODEL = "bi_encoder"


@pytest.mark.triton
async def test_every_setting_is_measured_and_the_repository_left_alone(tmp_path: Path) -> None:
    triton_config(tmp_path)
    config = MODEL_REPOSITORY / MODEL / "config.pbtxt"
    before = config.read_bytes()
    work = Work(clients=(1, 4), tokens=8, seconds=0.3)

    try:
        found = await sweep(
            MODEL_REPOSITORY, MODEL, [Setting(2, 20_000)], work, state=tmp_path / "sweep"
        )
    except BadEnvironment as error:
        missing(str(error))

    alone, four = found
    assert (alone.clients, four.clients) == (1, 4)
    assert config.read_bytes() == before
    # Triton waits that long for a second text that never comes; two that are there run at once.
    assert alone.p50_ms > 20
    assert alone.batch == pytest.approx(1, abs=0.1)
    assert 1 < four.batch < 3
