"""Each role reads the file that the chart gives it, and it says what was meant."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import load
from tests.deploy.chart_schema import OWN, ROLES
from tests.deploy.rendering import (
    NAME,
    NAMESPACE,
    VALUES,
    Object,
    Release,
    changed,
    container,
    pod,
    rendered,
)

EVERYTHING: dict[str, Any] = {
    "tls": {"existingSecret": "certificates", "clientCertificates": True},
    "apiKeys": {"existingSecret": "keys"},
    "gateway": {"http": {"enabled": True, "console": True}},
}


def config_of(workload: Object) -> str:
    """The ConfigMap that its pods read, without the release's name."""
    [name] = [v["configMap"]["name"] for v in pod(workload)["volumes"] if v["name"] == "config"]
    return str(name).removeprefix(f"{NAME}-")


def parsed(name: str, tmp_path: Path) -> dict[str, list[Any]]:
    """The configurations of each role, read as the role reads them."""
    found: dict[str, list[Any]] = {role: [] for role in ROLES}
    for number, (role, _, text) in enumerate(rendered(name).configs()):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        found[role].append(load(ROLES[role], path, role))
    return found


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_role_reads_its_configuration(name: str, tmp_path: Path) -> None:
    found = parsed(name, tmp_path)

    assert len(found["gateway"]) == len(found["indexer"]) == 1
    [gateway], [indexer], shards = found["gateway"], found["indexer"], found["shard"]
    assert [shard.shard for shard in shards] == list(range(indexer.shard_count))
    assert gateway.triton_address == indexer.triton_address
    assert {shard.index_url for shard in shards} == {indexer.index_url}
    if not indexer.index_url:
        assert {shard.index_directory for shard in shards} == {indexer.index_directory}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_values_of_a_role_reach_its_configuration(name: str, tmp_path: Path) -> None:
    found = parsed(name, tmp_path)

    for role, configs in found.items():
        for key, value in VALUES[name].get(role, {}).get("config", {}).items():
            assert {getattr(config, key) for config in configs} == {value}, key


@pytest.mark.parametrize("name", sorted(VALUES))
def test_gateways_know_every_shard_process_by_the_name_of_its_pod(name: str) -> None:
    release = rendered(name)
    headless = release.one("Service", "shards")
    pods = [
        f"{workload['metadata']['name']}-{replica}"
        for workload in release.all("StatefulSet")
        if workload["spec"]["serviceName"] == headless["metadata"]["name"]
        for replica in range(workload["spec"]["replicas"])
    ]

    assert headless["spec"]["clusterIP"] == "None"
    [port] = headless["spec"]["ports"]
    domain = f"{NAME}-shards.{NAMESPACE}.svc:{port['port']}"
    assert release.settings("gateway")["shards"] == [f"{each}.{domain}" for each in pods]


@pytest.mark.parametrize("name", sorted(VALUES))
def test_each_shard_gets_its_own_number(name: str) -> None:
    release = rendered(name)

    for workload in release.all("StatefulSet"):
        number = workload["metadata"]["labels"].get("trireme/shard")
        if number is None:
            continue
        own = config_of(workload)
        assert own == f"shard-{number}"
        assert release.settings(own)["shard"] == int(number)
        environment = {e["name"]: e.get("value") for e in container(workload)["env"]}
        assert environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_chart_sets_what_it_says_it_sets(role: str) -> None:
    more = [changed("production", **EVERYTHING), changed("minimal", snapshots={"location": "/x"})]
    files = [text for release in more for owner, _, text in release.configs() if owner == role]
    given = {key for text in files for key in yaml.safe_load(text)[role]}
    own = VALUES["production"][role].get("config", {}).keys()

    by_default = {"drain_pause_seconds"}
    for_launchers = {"address_file"}
    calls_nobody = {"tls_ca_file"} if role == "shard" else set()
    assert given - own - by_default == OWN[role] - for_launchers - calls_nobody
    assert OWN[role] <= {field.name for field in dataclasses.fields(ROLES[role])}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_file_that_a_role_is_told_of_is_mounted(name: str) -> None:
    release = changed(name, **EVERYTHING)
    for workload in release.workloads():
        role = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        if role not in ROLES:
            continue
        mounts = [mount["mountPath"] for mount in container(workload)["volumeMounts"]]
        [config] = [
            v["configMap"]["name"] for v in pod(workload)["volumes"] if v["name"] == "config"
        ]
        settings = release.settings(config.removeprefix(f"{NAME}-"))
        told = [str(v).removeprefix("sqlite:///") for v in settings.values()]
        files = [each for each in told if each.startswith("/")]
        assert files
        in_image = "/models"
        for file in files:
            assert file == in_image or any(file.startswith(mount) for mount in mounts), file


def test_drain_and_pause_fit_into_the_grace_of_a_pod() -> None:
    gateway = {"config": {"drain_seconds": 41.5, "drain_pause_seconds": 7.0}}
    release = changed("production", gateway=gateway)

    assert pod(release.workload("gateway"))["terminationGracePeriodSeconds"] == 42 + 7 + 10
    assert pod(release.workload("shard-0"))["terminationGracePeriodSeconds"] == 5 + 5 + 10


@pytest.mark.parametrize("role", sorted(ROLES))
def test_pods_are_replaced_when_their_own_configuration_changes(role: str) -> None:
    def checksums(release: Release) -> dict[str, str]:
        templates = {w["metadata"]["name"]: w["spec"]["template"] for w in release.workloads()}
        return {
            name: template["metadata"].get("annotations", {}).get("checksum/config", "")
            for name, template in templates.items()
        }

    before = checksums(rendered("cpu"))
    after = checksums(changed("cpu", **{role: {"config": {"log_level": "debug"}}}))

    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if name.startswith(f"{NAME}-{role}")
    }


@pytest.mark.parametrize("name", sorted(VALUES))
def test_secrets_are_named_and_never_shown(name: str) -> None:
    release = changed(name, **EVERYTHING)
    text = json.dumps(release.objects)

    assert not release.all("Secret")
    assert not re.search(r"(?i)(password|secret_?access_?key|api_?key)\"?: *\"[^\"]", text)
    for _, _, config in release.configs():
        assert "@" not in config.replace("trireme@", "")
        assert not re.search(r"(?i)password|secret", config)


def test_credentials_come_from_the_secrets_that_are_named() -> None:
    release = rendered("cpu")

    def secrets(name: str) -> dict[str, tuple[str, str]]:
        return {
            entry["name"]: (
                entry["valueFrom"]["secretKeyRef"]["name"],
                entry["valueFrom"]["secretKeyRef"]["key"],
            )
            for entry in container(release.workload(name)).get("env", [])
            if "valueFrom" in entry
        }

    bucket = {
        key: ("trireme-bucket", key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    assert secrets("shard-0") == bucket
    assert secrets("indexer") == bucket | {"PGPASSWORD": ("trireme-postgresql", "password")}
    assert not secrets("gateway")
    assert not secrets("triton")


def test_each_role_may_have_a_certificate_of_its_own() -> None:
    release = rendered("production")

    def secret(name: str) -> str:
        volumes = pod(release.workload(name))["volumes"]
        [found] = [each["secret"]["secretName"] for each in volumes if each["name"] == "tls"]
        return str(found)

    assert secret("gateway") == "trireme-gateway-tls"
    assert secret("shard-0") == secret("indexer") == "trireme-tls"
