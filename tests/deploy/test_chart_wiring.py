"""What belongs together finds each other: selectors, ports, probes, volumes, budgets, policies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.rendering import (
    NAME,
    NAMESPACE,
    VALUES,
    Object,
    Release,
    changed,
    component,
    container,
    labels,
    pod,
    rendered,
)

HEALTH_PORT = 8090
RELEASES = sorted(VALUES)


def selects(selector: dict[str, str], workload: Object) -> bool:
    """Whether a label selector takes the pods of a workload."""
    return selector.items() <= labels(workload).items()


def ports(workload: Object) -> dict[str, int]:
    """The ports of its container by name."""
    return {each["name"]: each["containerPort"] for each in container(workload)["ports"]}


@pytest.mark.parametrize("name", RELEASES)
def test_every_workload_selects_its_own_pods_and_no_others(name: str) -> None:
    workloads = rendered(name).workloads()

    for workload in workloads:
        selector = workload["spec"]["selector"]["matchLabels"]
        assert [each for each in workloads if selects(selector, each)] == [workload]


def test_a_new_version_of_the_chart_alone_replaces_no_pod() -> None:
    for workload in rendered("production").workloads():
        assert labels(workload) == workload["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("name", RELEASES)
def test_every_service_leads_to_ports_that_its_pods_have(name: str) -> None:
    release = changed(name, serviceMonitor={"enabled": True})
    for service in release.all("Service"):
        behind = [w for w in release.workloads() if selects(service["spec"]["selector"], w)]

        assert behind
        assert {component(each) for each in behind} == {component(service)}
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in ports(each) for each in behind)


@pytest.mark.parametrize("name", RELEASES)
def test_probes_ask_the_health_service_at_a_port_that_is_open(name: str) -> None:
    release = rendered(name)
    for workload in release.workloads():
        only = container(workload)
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = only[kind]["grpc"]
            assert probe["port"] in ports(workload).values()
            if component(workload) != "triton":
                assert probe["port"] == HEALTH_PORT
                assert probe.get("service", "") == ("" if kind == "readinessProbe" else "liveness")


@pytest.mark.parametrize("name", RELEASES)
def test_ports_are_those_that_roles_are_told_to_listen_at(name: str) -> None:
    release = rendered(name)
    names = {"address": "grpc", "metrics_address": "metrics", "health_address": "health"}
    for role in ("gateway", "shard-0", "indexer"):
        settings = release.settings(role)
        wanted = {port: int(settings[key].rpartition(":")[2]) for key, port in names.items()}
        if "http_address" in settings:
            wanted["http"] = int(settings["http_address"].rpartition(":")[2])

        assert ports(release.workload(role)) == wanted


@pytest.mark.parametrize("name", RELEASES)
def test_addresses_that_roles_are_told_of_are_services_of_the_release(name: str) -> None:
    release = rendered(name)
    known = {
        f"{service['metadata']['name']}.{NAMESPACE}.svc:{port['port']}"
        for service in release.all("Service")
        for port in service["spec"]["ports"]
    }
    gateway, indexer = release.settings("gateway"), release.settings("indexer")

    assert {gateway["indexer_address"], gateway["triton_address"]} <= known
    assert indexer["triton_address"] in known
    assert {address.partition(".")[2] for address in gateway["shards"]} <= known


@pytest.mark.parametrize("name", RELEASES)
def test_mounts_and_volumes_match(name: str) -> None:
    for workload in rendered(name).workloads():
        given = {each["name"] for each in pod(workload)["volumes"]}
        claimed = {
            each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])
        }

        assert {each["name"] for each in container(workload)["volumeMounts"]} == given | claimed


@pytest.mark.parametrize("name", RELEASES)
def test_no_container_is_root_or_can_write_where_it_need_not(name: str) -> None:
    for workload in rendered(name).workloads():
        context, only = pod(workload)["securityContext"], container(workload)

        assert context["runAsNonRoot"]
        assert context["runAsUser"] > 0
        assert context["seccompProfile"]["type"] == "RuntimeDefault"
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod(workload)["automountServiceAccountToken"] is False
        assert {"cpu", "memory"} <= only["resources"]["requests"].keys()
        assert "memory" in only["resources"]["limits"]


def budgeted(release: Release) -> set[str]:
    """Names of workloads that a disruption budget protects; each is protected once."""
    found = [
        workload["metadata"]["name"]
        for budget in release.all("PodDisruptionBudget")
        for workload in release.workloads()
        if selects(budget["spec"]["selector"]["matchLabels"], workload)
    ]
    assert len(found) == len(set(found)) == len(release.all("PodDisruptionBudget"))
    return {name.removeprefix(f"{NAME}-") for name in found}


@pytest.mark.parametrize("name", RELEASES)
def test_a_budget_protects_what_has_several_pods_and_blocks_no_single_one(name: str) -> None:
    release = rendered(name)
    several = {
        workload["metadata"]["name"].removeprefix(f"{NAME}-")
        for workload in release.workloads()
        if workload["spec"].get("replicas", 2) > 1
    }

    assert budgeted(release) == several
    assert {b["spec"]["maxUnavailable"] for b in release.all("PodDisruptionBudget")} <= {1}


def test_the_autoscaler_decides_how_many_gateways_there_are() -> None:
    release = rendered("production")
    [scaler] = release.all("HorizontalPodAutoscaler")
    gateway = release.workload("gateway")

    assert scaler["spec"]["scaleTargetRef"]["name"] == gateway["metadata"]["name"]
    assert "replicas" not in gateway["spec"]
    assert scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
    assert "cpu" in container(gateway)["resources"]["requests"]


def test_there_is_never_a_second_indexer() -> None:
    for name in VALUES:
        indexer = rendered(name).one("StatefulSet", "indexer")
        assert indexer["spec"]["replicas"] == 1


def test_pods_with_gpus_ask_for_them_and_others_do_not() -> None:
    def gpus(name: str) -> dict[str, Any]:
        return {
            workload["metadata"]["name"].removeprefix(f"{NAME}-"): limits["nvidia.com/gpu"]
            for workload in rendered(name).workloads()
            if "nvidia.com/gpu" in (limits := container(workload)["resources"]["limits"])
        }

    assert gpus("gpu") == {"shard-0": 1, "shard-1": 1, "triton": 1}
    assert not gpus("cpu")
    assert rendered("gpu").settings("indexer")["search_gpu"] is True


def test_shards_on_a_volume_of_one_node_go_where_the_indexer_is() -> None:
    shared, spread = (
        rendered("default"),
        changed("default", index={"persistence": {"accessMode": "ReadWriteMany"}}),
    )
    [term] = pod(shared.workload("shard-0"))["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]

    assert selects(term["labelSelector"]["matchLabels"], shared.workload("indexer"))
    assert "affinity" not in pod(spread.workload("shard-0"))
    assert "affinity" not in pod(rendered("cpu").workload("shard-0"))
