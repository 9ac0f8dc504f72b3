"""The check of a machine's GPUs, with stand-ins; and without any GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

from core.gpu.faiss_device import gpu_count
from core.vectors.kinds import KINDS
from deploy.gpu_check import check
from tests.fakes.gpu import FakeDevice


def test_every_kind_is_tried_on_every_device() -> None:
    devices = [FakeDevice(), FakeDevice(gpus=2)]

    figures = list(check(devices, rows=4000, dimension=16, queries=5))

    kinds = [kind.name for kind in KINDS.values() if kind.runs_on_gpu]
    assert [(one.kind, one.gpus) for one in figures] == [(k, n) for k in kinds for n in (1, 2)]
    assert {one.place for one in figures} == {"gpu"}
    # The stand-in computes as the CPU does, and over-fetching leaves no selected row out.
    assert [one.same for one in figures] == [1.0] * len(figures)
    assert all(one.same_filtered >= 0.98 for one in figures)


def test_a_device_with_wrong_answers_is_shown_on_the_cpu() -> None:
    (first, *_) = check([FakeDevice(broken=True)], rows=2000, dimension=16, queries=2)

    assert first.place == "cpu"


def test_without_a_gpu_it_says_so_and_fails() -> None:
    if gpu_count():
        pytest.skip("there is a GPU here")

    done = subprocess.run(
        [sys.executable, "-m", "deploy.gpu_check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert done.stdout == ""
