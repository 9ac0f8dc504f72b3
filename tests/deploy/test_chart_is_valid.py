"""Every values file gives objects that Kubernetes takes, and wrong values are refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from helm_python import HelmError, lint

from tests.deploy import chart_schema, kubernetes
from tests.deploy.rendering import CHART, VALUES, Object, changed, merged, render, rendered

MINORS = ("1.30", "1.32", "1.34", "1.37")
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "labels": STRINGS},
    "additionalProperties": False,
}
# What the Prometheus operator's own definitions ask for, as far as the chart uses them:
# https://prometheus-operator.dev/docs/api-reference/api/
SERVICE_MONITOR = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {
            "type": "object",
            "required": ["matchLabels"],
            "additionalProperties": False,
            "properties": {"matchLabels": STRINGS},
        },
        "endpoints": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["port"],
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
                    "relabelings": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {
                                "sourceLabels": {"type": "array", "items": {"type": "string"}},
                                "targetLabel": {"type": "string"},
                                "replacement": {"type": "string"},
                            },
                        },
                    },
                },
            },
        },
    },
}
RULE: dict[str, Any] = {
    "type": "object",
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "additionalProperties": False,
    "properties": {
        "alert": {"type": "string"},
        "record": {"type": "string"},
        "expr": {"type": "string", "minLength": 1},
        "for": {"type": "string"},
        "keep_firing_for": {"type": "string"},
        "labels": STRINGS,
        "annotations": STRINGS,
    },
}
PROMETHEUS_RULE = {
    "type": "object",
    "required": ["groups"],
    "additionalProperties": False,
    "properties": {
        "groups": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "rules"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "interval": {"type": "string"},
                    "rules": {"type": "array", "minItems": 1, "items": RULE},
                },
            },
        }
    },
}
CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
}
REFUSED: dict[str, dict[str, Any]] = {
    "a key that does not exist": {"gatway": {}},
    "a setting that does not exist": {"gateway": {"config": {"rerank_deph": 10}}},
    "a setting of another type": {"shard": {"config": {"search_threads": "four"}}},
    "a setting that the chart makes": {"shard": {"config": {"shard": 3}}},
    "a password in the address of the database": {
        "database": {"url": "postgresql://trireme:secret@db/trireme"}
    },
    "no shards": {"shard": {"count": 0}},
    "a bucket that is none": {"index": {"url": "https://bucket"}},
    "several gateways without a common key": {"gateway": {"replicas": 2}},
    "no Triton at all": {"triton": {"enabled": False}},
}


def problems(thing: Object, minor: str) -> list[str]:
    """What Kubernetes, or the operator that owns the kind, would not take."""
    schema = CUSTOM.get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        return kubernetes.problems(thing, minor)
    wrong = [
        *jsonschema.Draft202012Validator(METADATA).iter_errors(thing["metadata"]),
        *jsonschema.Draft202012Validator(schema).iter_errors(thing["spec"]),
    ]
    return [str(error) for error in wrong]


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_object_is_valid(name: str, minor: str) -> None:
    objects = rendered(name).objects

    assert {"Deployment", "StatefulSet", "Service", "ConfigMap"} <= {o["kind"] for o in objects}
    assert not [problem for thing in objects for problem in problems(thing, minor)]


def test_a_wrong_field_would_be_noticed() -> None:
    thing = rendered("minimal").workload("gateway")
    [container] = thing["spec"]["template"]["spec"]["containers"]
    wrong = merged(thing, {})
    wrong["spec"]["template"]["spec"]["containers"] = [
        {**container, "readinesProbe": container["readinessProbe"]}
    ]

    assert "readinesProbe" in str(problems(wrong, MINORS[-1]))


@pytest.mark.parametrize("name", sorted(VALUES))
def test_no_two_objects_share_a_name(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(name).objects]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(VALUES))
def test_lint_has_nothing_to_say(name: str) -> None:
    report = lint(CHART, VALUES[name], strict=True, kube_version="v1.30.0")

    severe = [each for each in report["messages"] if each["severity"] > 1]
    assert not severe
    assert not report["errors"]


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_wrong_values_are_refused(what: str) -> None:
    with pytest.raises(HelmError):
        render(REFUSED[what])


def test_the_schema_knows_every_setting_of_today() -> None:
    committed = json.loads(chart_schema.SCHEMA.read_text())

    assert chart_schema.expected() == committed, "python -m tests.deploy.chart_schema --write"


def test_a_name_of_ones_own_reaches_every_object() -> None:
    objects = changed("production", fullnameOverride="papers").objects

    assert {each["metadata"]["name"].partition("-")[0] for each in objects} == {"papers"}
