"""Network policies open the paths that roles need, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.rendering import Release, changed, component, container, labels, rendered

ROLES = ("gateway", "shard", "indexer", "triton")
DNS = {53}
Path = tuple[str, str, int]
"""From whom, to whom, at which port; who is not of the release is called "outside"."""


def needed(release: Release) -> set[Path]:
    """The paths that the roles' own configurations speak of."""
    gateway, indexer = release.settings("gateway"), release.settings("indexer")
    calls = [("gateway", "shard", address) for address in gateway["shards"]]
    calls += [("gateway", "indexer", gateway["indexer_address"])]
    calls += [(role, "triton", gateway["triton_address"]) for role in ("gateway", "indexer")]
    paths = {(caller, callee, int(at.rpartition(":")[2])) for caller, callee, at in calls}
    paths.add(("outside", "gateway", int(gateway["address"].rpartition(":")[2])))
    if "http_address" in gateway:
        paths.add(("outside", "gateway", int(gateway["http_address"].rpartition(":")[2])))
    if indexer["database_url"].startswith("postgresql://"):
        paths.add(("indexer", "outside", 5432))
    for role, settings in (("indexer", indexer), ("shard", release.settings("shard-0"))):
        if settings.get("index_url"):
            paths.add((role, "outside", 443))
    return paths


def metrics(release: Release) -> set[Path]:
    """The paths of Prometheus."""
    return {
        ("outside", component(workload), port["containerPort"])
        for workload in release.workloads()
        for port in container(workload)["ports"]
        if port["name"] == "metrics"
    }


def peers(release: Release, rules: list[dict[str, Any]] | None) -> set[str]:
    """The roles that the peers of a rule stand for."""
    if not rules:
        return {"outside"}
    found = set()
    for rule in rules:
        selector = rule.get("podSelector", {}).get("matchLabels")
        if selector is None:
            found.add("outside")
            continue
        matching = [w for w in release.workloads() if selector.items() <= labels(w).items()]
        found |= {component(each) for each in matching}
    return found


def opened(release: Release) -> tuple[set[Path], set[Path]]:
    """What the policies let in, and what they let out; without name resolution."""
    inward, outward = set(), set()
    for policy in release.all("NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        role = component(policy)
        for rule in policy["spec"]["ingress"]:
            for other in peers(release, rule.get("from")):
                inward |= {(other, role, port["port"]) for port in rule["ports"]}
        for rule in policy["spec"]["egress"]:
            for other in peers(release, rule.get("to")):
                outward |= {(role, other, port["port"]) for port in rule["ports"]}
    return inward, {path for path in outward if path[2] not in DNS}


@pytest.mark.parametrize("name", ["default", "minimal", "gpu", "production"])
def test_exactly_the_paths_that_are_needed_are_open(name: str) -> None:
    release = changed(name, networkPolicy={"enabled": True})
    inward, outward = opened(release)

    paths = needed(release)
    assert inward == {path for path in paths if path[1] != "outside"} | metrics(release)
    assert outward == {path for path in paths if path[0] != "outside"}


def test_every_pod_has_one_policy() -> None:
    release = rendered("production")

    for workload in release.workloads():
        selecting = [
            policy
            for policy in release.all("NetworkPolicy")
            if policy["spec"]["podSelector"]["matchLabels"].items() <= labels(workload).items()
        ]
        assert len(selecting) == 1
    assert {component(each) for each in release.all("NetworkPolicy")} == set(ROLES)


def test_an_external_triton_is_called_where_it_is() -> None:
    triton = {"enabled": False, "address": "triton.models.svc:8001"}
    outside = {"port": 8001, "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    release = changed(
        "production", triton=triton, networkPolicy={"enabled": True, "externalTriton": outside}
    )
    _, outward = opened(release)

    assert {("gateway", "outside", 8001), ("indexer", "outside", 8001)} <= outward
    assert release.settings("gateway")["triton_address"] == "triton.models.svc:8001"
    assert {component(each) for each in release.workloads()} == {"gateway", "shard", "indexer"}
    assert {component(each) for each in release.all("NetworkPolicy")} == set(ROLES) - {"triton"}


def test_clients_can_be_limited() -> None:
    clients = [{"namespaceSelector": {"matchLabels": {"team": "search"}}}]
    release = changed("production", networkPolicy={"clients": clients})
    policy = release.one("NetworkPolicy", "gateway")

    from_clients = [rule for rule in policy["spec"]["ingress"] if rule.get("from") == clients]
    assert [port["port"] for rule in from_clients for port in rule["ports"]] == [8080, 8000]
