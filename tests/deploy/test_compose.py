"""The Compose file says what the roles, the images and the chart say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import load
from tests.deploy.chart_schema import ROLES
from tests.deploy.rendering import container, rendered
from tests.deploy.test_images import ROOT, TARGETS, instructions

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
# https://github.com/compose-spec/compose-spec/blob/main/05-services.md, as far as the file uses it.
KNOWN_KEYS = {
    "build",
    "cap_drop",
    "command",
    "configs",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "profiles",
    "read_only",
    "restart",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "tmpfs",
    "user",
    "volumes",
}


def settings(service: str, directory: Path) -> Any:
    """The configuration of a service, read as its role reads it."""
    [config] = SERVICES[service]["configs"]
    assert config["target"] == "/etc/trireme/config.yaml"
    path = directory / f"{service}.yaml"
    path.write_text(COMPOSE["configs"][config["source"]]["content"])
    role = service.partition("-")[0]
    return load(ROLES[role], path, role)


def test_every_role_reads_its_configuration(tmp_path: Path) -> None:
    gateway, indexer = settings("gateway", tmp_path), settings("indexer", tmp_path)
    shards = [settings(name, tmp_path) for name in SERVICES if name.startswith("shard-")]

    assert [shard.shard for shard in shards] == list(range(indexer.shard_count))
    assert {shard.index_directory for shard in shards} == {indexer.index_directory}
    called = [*gateway.shards, gateway.indexer_address, gateway.triton_address]
    listening = {f"{name}:{_port(name, tmp_path)}" for name in SERVICES if name != "tools"}
    assert set(called) <= listening
    assert indexer.triton_address in listening


def test_services_have_no_other_keys_than_composes_own() -> None:
    for service in SERVICES.values():
        assert service.keys() <= KNOWN_KEYS


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_built_where_it_is_used_first(name: str) -> None:
    repository = SERVICES[name]["image"].partition(":")[0]
    builders = [
        each["build"]["target"]
        for each in SERVICES.values()
        if each["image"].partition(":")[0] == repository and "build" in each
    ]

    assert builders == [repository.removeprefix("trireme-")]
    assert builders[0] in TARGETS
    [dockerfile] = {each["build"]["dockerfile"] for each in SERVICES.values() if "build" in each}
    assert (FILE.parent / ".." / dockerfile).exists()


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"tools"}))
def test_containers_can_write_only_where_they_have_to(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]
    made = " ".join(line for line in instructions("base") if line.startswith("RUN install"))
    for volume in service.get("volumes", []):
        source, target = volume.split(":")
        assert source in COMPOSE["volumes"]
        assert re.search(rf" {target}( |$)", made)


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_triton_is_started_as_the_chart_starts_it() -> None:
    chart = container(rendered("default").workload("triton"))["args"]

    def options(arguments: list[str]) -> set[str]:
        return {each for each in arguments if not each.startswith("--exit-timeout-secs")}

    assert options(SERVICES["triton"]["command"]) == options(chart)


def _port(name: str, directory: Path) -> str:
    if name == "triton":
        [option] = [o for o in SERVICES[name]["command"] if o.startswith("--grpc-port=")]
        return str(option.partition("=")[2])
    return str(settings(name, directory).address.rpartition(":")[2])
