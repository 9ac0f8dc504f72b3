"""Alerts and dashboards: every one is tested, explained and asks for what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.guards.stubs import ROOT

FILES = ROOT / "deploy" / "chart" / "trireme" / "files"
RULES = FILES / "alerts.yaml"
TESTS = sorted((ROOT / "tests" / "alerts").glob("*.yaml"))
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"
MONITORING = ROOT / "docs" / "operations" / "monitoring.md"
# Units of Grafana that are in use; a misspelt one is shown as it is, beside every number.
UNITS = {"bytes", "Bps", "ops", "percentunit", "reqps", "s", "short", "wps", "µs"}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


NAMES = [alert["alert"] for alert in alerts()]


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def promtool(*arguments: str | Path) -> str:
    """What promtool says; fails if it is not content."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        [found, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOMAXPROCS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_reads_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_before(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_seen_quiet_and_firing_in_a_test(name: str) -> None:
    cases = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
    (case,) = [case for case in cases if case["name"] == name]

    quiet, firing = case["promql_expr_test"]
    for moment in (quiet, firing):
        assert moment["expr"] == f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    assert quiet["exp_samples"] == []
    assert firing["exp_samples"]


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_every_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]

    assert alert["labels"]["severity"] in ("critical", "warning")
    assert annotations["summary"]
    assert annotations["description"].endswith(".") or "; " in annotations["description"]
    assert annotations["runbook_url"].endswith(f"runbook.md#{alert['alert'].lower()}")


@pytest.mark.parametrize("name", NAMES)
def test_the_runbook_tells_of_every_alert(name: str) -> None:
    entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.M | re.S))

    for part in ("What it means", "How to look", "What to do"):
        assert f"**{part}.**" in entries[name]


def test_the_runbook_tells_of_no_alert_that_is_gone() -> None:
    told = re.findall(r"^## (Trireme\w+)", RUNBOOK.read_text(), re.M)

    assert sorted(told) == sorted(NAMES)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_read(path: Path) -> None:
    board = json.loads(path.read_text())
    variables = {each["name"]: each["type"] for each in board["templating"]["list"]}

    assert variables["datasource"] == "datasource"
    assert board["uid"] == f"trireme-{path.stem}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels(path):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_there_is_a_dashboard_for_every_role() -> None:
    assert [path.stem for path in DASHBOARDS] == ["gateway", "indexer", "shard", "triton"]


def test_panels_do_not_lie_on_each_other() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{path.stem}: {panel['title']}"
            taken |= cells
