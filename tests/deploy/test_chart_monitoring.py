"""The chart carries alerts and dashboards to Prometheus and Grafana as they are."""

from __future__ import annotations

import json

import yaml

from tests.deploy.rendering import CHART, NAME, changed, component, rendered

MOST_BYTES = 1_000_000
"""What a ConfigMap holds: 1 MiB, names included."""


def test_metrics_of_every_role_are_read_by_one_monitor() -> None:
    release = rendered("production")
    [monitor] = release.all("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    services = [
        service
        for service in release.all("Service")
        if wanted.items() <= service["metadata"]["labels"].items()
    ]
    [endpoint] = monitor["spec"]["endpoints"]

    assert {component(each) for each in services} == {"gateway", "shard", "indexer", "triton"}
    for service in services:
        assert [port["name"] for port in service["spec"]["ports"]] == [endpoint["port"]]


def test_alerts_arrive_as_they_are_written() -> None:
    [rule] = rendered("production").all("PrometheusRule")

    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())


def test_every_dashboard_arrives_as_it_is_drawn() -> None:
    release = rendered("production")
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))

    assert files
    for file in files:
        carried = release.one("ConfigMap", f"dashboard-{file.stem}")
        assert carried["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(carried["data"][file.name]) == json.loads(file.read_text())
        assert len(json.dumps(carried)) < MOST_BYTES


def test_nothing_is_watched_unless_that_is_asked_for() -> None:
    kinds = {each["kind"] for each in rendered("default").objects}

    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert not [n for n in names("default") if "dashboard" in n or "metrics" in n]


def test_monitors_and_rules_get_the_labels_that_an_operator_selects_by() -> None:
    wanted = {"release": "prometheus"}
    release = changed(
        "production", serviceMonitor={"labels": wanted}, prometheusRule={"labels": wanted}
    )

    for kind in ("ServiceMonitor", "PrometheusRule"):
        [found] = release.all(kind)
        assert wanted.items() <= found["metadata"]["labels"].items()


def names(values: str) -> list[str]:
    """The names of all objects."""
    found = [each["metadata"]["name"] for each in rendered(values).objects]
    return [name.removeprefix(f"{NAME}-") for name in found]
