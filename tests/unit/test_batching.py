"""Which batching is recommended, and how it is written into a model's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadEnvironment
from deploy.load.batching import current_setting, with_setting
from deploy.load.choice import Measured, Setting, recommend

NOW, WIDE, PATIENT = Setting(8, 0), Setting(64, 0), Setting(64, 5000)
CONFIG = """
name: "encoder"
max_batch_size: 8
dynamic_batching { priority_levels: 2 preferred_batch_size: [ 4, 8 ] }
model_warmup { name: "small" batch_size: 1 }
model_warmup { name: "large" batch_size: 8 }
"""


def measured(setting: Setting, *, lone_ms: float, busy: float) -> list[Measured]:
    return [
        Measured(setting, 1, 1000 / lone_ms, lone_ms, lone_ms * 2, 1.0),
        Measured(setting, 8, busy, 8000 / busy, 16_000 / busy, 3.0),
    ]


def test_throughput_decides_where_a_lone_query_does_not_wait() -> None:
    rows = measured(NOW, lone_ms=10, busy=100) + measured(WIDE, lone_ms=10.5, busy=150)

    advice = recommend(rows, NOW)

    assert advice.setting == WIDE
    assert "1.50 times as many as now" in advice.because


def test_a_delay_that_lone_queries_pay_for_is_not_recommended() -> None:
    rows = measured(NOW, lone_ms=10, busy=100) + measured(PATIENT, lone_ms=15, busy=200)

    assert recommend(rows, NOW).setting == NOW


def test_what_gains_little_is_no_reason_to_change() -> None:
    rows = measured(NOW, lone_ms=10, busy=100) + measured(WIDE, lone_ms=9, busy=104)

    assert recommend(rows, NOW).setting == NOW


def test_a_delay_that_is_there_is_advised_away() -> None:
    rows = measured(PATIENT, lone_ms=15, busy=110) + measured(WIDE, lone_ms=10, busy=100)

    advice = recommend(rows, PATIENT)

    assert advice.setting == WIDE
    assert "10.0 ms, now 15.0 ms" in advice.because


def test_a_setting_is_written_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    path = tmp_path / "encoder" / "config.pbtxt"
    path.write_text(with_setting(CONFIG, Setting(4, 250)))

    assert current_setting(tmp_path, "encoder") == Setting(4, 250)
    assert "preferred" not in path.read_text()
    assert "batch_size: 8" not in path.read_text()
    assert "priority_levels: 2" in path.read_text()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="nothing"):
        current_setting(tmp_path, "nothing")
