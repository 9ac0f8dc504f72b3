"""The chart, rendered by Helm's own engine as `helm template` would."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "chart" / "trireme"
RELEASE = "demo"
NAMESPACE = "search"
NAME = "demo-trireme"

Object = dict[str, Any]


def values_files() -> dict[str, dict[str, Any]]:
    """The values of every file of the chart by name; the chart's own as `default`."""
    found: dict[str, dict[str, Any]] = {"default": {}}
    for path in sorted(CHART.glob("values-*.yaml")):
        found[path.stem.removeprefix("values-")] = yaml.safe_load(path.read_text())
    return found


VALUES = values_files()


class Release:
    """All objects of one rendering."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The object of a kind with this name behind the release's."""
        full = f"{NAME}-{name}" if name else NAME
        return next(each for each in self.all(kind) if each["metadata"]["name"] == full)

    def workloads(self) -> list[Object]:
        """Whatever has pods."""
        return self.all("Deployment") + self.all("StatefulSet")

    def workload(self, name: str) -> Object:
        """The workload of this name behind the release's."""
        return next(w for w in self.workloads() if w["metadata"]["name"] == f"{NAME}-{name}")

    def configs(self) -> Iterator[tuple[str, Object, str]]:
        """Role, ConfigMap and text of each configuration file."""
        for each in self.all("ConfigMap"):
            if "config.yaml" in each["data"]:
                role = each["metadata"]["labels"]["app.kubernetes.io/component"]
                yield role, each, each["data"]["config.yaml"]

    def settings(self, name: str) -> dict[str, Any]:
        """What the configuration of a ConfigMap holds, in the section of its role."""
        sections = yaml.safe_load(self.one("ConfigMap", name)["data"]["config.yaml"])
        [found] = sections.values()
        return dict(found)


def render(values: Mapping[str, Any]) -> Release:
    """Renders the chart; raises HelmError for values that its schema or templates refuse."""
    texts = _chart().render(dict(values), name=RELEASE, namespace=NAMESPACE)
    documents = [
        document
        for path, text in texts.items()
        if path.endswith(".yaml")
        for document in yaml.load_all(text, yaml.CSafeLoader)
        if document
    ]
    return Release(documents)


@functools.cache
def rendered(name: str) -> Release:
    """The release of a values file, rendered once."""
    return render(VALUES[name])


def changed(name: str, **changes: Any) -> Release:
    """The release of a values file with some values changed: `gateway={"replicas": 2}`."""
    return render(merged(VALUES[name], changes))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others laid over them, as Helm does it."""
    result = json.loads(json.dumps(base))
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return dict(result)


def pod(workload: Object) -> Object:
    """The specification of its pods."""
    return dict(workload["spec"]["template"]["spec"])


def container(workload: Object) -> Object:
    """Its only container."""
    [only] = pod(workload)["containers"]
    return dict(only)


def labels(workload: Object) -> dict[str, str]:
    """The labels of its pods."""
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def component(thing: Object) -> str:
    """The role that an object belongs to."""
    return str(thing["metadata"]["labels"]["app.kubernetes.io/component"])


@functools.cache
def _chart() -> Chart:
    return Chart.load(CHART)
