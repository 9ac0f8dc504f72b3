"""A real Prometheus asks a real cluster: every page is well formed, every panel finds data."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from core.rpc import open_channel
from deploy.local.cluster import MODEL_REPOSITORY, MODELS, Cluster, ClusterConfig
from deploy.local.monitoring import RULES, write_prometheus_config
from deploy.local.ports import free_ports
from deploy.local.triton import exported_models
from tests.contract.conftest import missing
from tests.paths.conftest import SECONDS, Client
from trireme.v1 import collection_pb2, inference_pb2, search_pb2

pytestmark = pytest.mark.triton

DASHBOARDS = RULES.parent / "dashboards"
SCRAPE_SECONDS = 0.5
# What rates are taken over: at least two answers of every page.
WINDOW = "10s"
# Only where there is a GPU. Queries that name them fall back to the processor's.
ON_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
METRIC = re.compile(r"\b(?:trireme|nv|process)_\w+|\btrireme:[\w:]+|\bup\b(?=\{)")
TEXTS = {"oars": "galleys were rowed by oarsmen", "sail": "a frigate under sail"}


@dataclass(frozen=True)
class Watched(Client):
    """A real cluster that has answered some calls, and what its pages showed then."""

    channel: grpc.aio.Channel
    cluster: Cluster
    pages: dict[str, str] = field(default_factory=dict)

    async def work(self) -> None:
        """Calls of every kind that a page tells of."""
        position = await self.put("ships", **TEXTS)
        await self.search("ships", "who rowed?", min_position=position)
        await self.search("ships", "who rowed?", page_size=1)
        request = search_pb2.SearchRequest(collection="ships", query="sail")
        await self.searches.BatchSearch(
            search_pb2.BatchSearchRequest(requests=[request]), timeout=SECONDS
        )
        await self.inference.Embed(
            inference_pb2.EmbedRequest(texts=["oar"], kind=inference_pb2.EMBED_KIND_DOCUMENT),
            timeout=SECONDS,
        )


def page(address: str, *, accept: str = "text/plain") -> str:
    """One metrics page."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        text: str = reply.read().decode()
    return text


@pytest.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    if {model.name for model in exported_models(MODEL_REPOSITORY)} < set(MODELS):
        missing("the models are not exported: run `trireme models export`")
    state: Path = tmp_path_factory.mktemp("watched") / "state"
    cluster = await Cluster.create(ClusterConfig(state=state, shards=2, port=0))
    try:
        await cluster.start()
        async with open_channel(cluster.address) as channel:
            found = Watched(channel, cluster)
            await found.collections.CreateCollection(
                collection_pb2.CreateCollectionRequest(
                    collection=collection_pb2.Collection(name="ships")
                ),
                timeout=SECONDS,
            )
            await found.work()
            found.pages.update({n: page(a) for n, a in cluster.metrics_addresses.items()})
            yield found
    finally:
        await cluster.stop(5.0)


def shown(pages: Iterable[str]) -> set[str]:
    """The names of all series, also of those that begin with an event that has not happened."""
    names: set[str] = set()
    for text in pages:
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
            parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            names |= {name + part for part in parts}
    return names


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panel_queries() -> Iterator[tuple[str, str]]:
    """Every panel's title with its query, as Grafana would send it."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", WINDOW)
                yield f"{path.stem}: {panel['title']}", query.replace("$namespace", ".*")


async def test_pages_are_as_prometheus_wants_them(watched: Watched) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for name, text in watched.pages.items():
        if name != "triton":  # its names are its own
            checked = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True
            )
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), name


async def test_everything_that_alerts_and_dashboards_ask_for_is_shown(watched: Watched) -> None:
    samples = shown(watched.pages.values()) | ON_GPUS | {"up"}
    samples |= {rule["record"] for rule in rules("record")}
    queries = [*panel_queries(), *((rule["alert"], rule["expr"]) for rule in rules("alert"))]
    queries += [(rule["record"], rule["expr"]) for rule in rules("record")]

    for name, query in queries:
        for metric in METRIC.findall(query):
            if not metric.endswith("_"):  # part of a pattern
                assert metric in samples, f"{name}: {metric}"


async def test_measurements_are_tied_to_traces_that_somebody_records(watched: Watched) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    await watched.searches.Search(
        search_pb2.SearchRequest(collection="ships", query="oars"),
        timeout=SECONDS,
        metadata=(("traceparent", f"00-{trace}-b7ad6b7169203331-01"),),
    )

    open_metrics = "application/openmetrics-text; version=1.0.0"
    text = page(watched.cluster.metrics_addresses["gateway"], accept=open_metrics)

    tied = {line.partition("{")[0] for line in text.splitlines() if f'trace_id="{trace}"' in line}
    assert "trireme_gateway_call_duration_seconds_bucket" in tied
    assert "trireme_gateway_stage_duration_seconds_bucket" in tied


@contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[str]:
    """A Prometheus of its own over a configuration; its URL."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    (port,) = free_ports(1, "127.0.0.1")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def asked(url: str, query: str) -> list[Any]:
    """What a query finds now; nothing while the Prometheus is not there yet."""
    parameters = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}", timeout=SECONDS) as reply:
            found: list[Any] = json.load(reply)["data"]["result"]
    except (ConnectionError, urllib.error.URLError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code != 503:
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        return []
    return found


async def test_every_panel_shows_something(watched: Watched, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yaml"
    pages = watched.cluster.metrics_addresses
    write_prometheus_config(config, pages, seconds=SCRAPE_SECONDS)
    lacking = list(panel_queries())
    with prometheus(config, tmp_path) as url:
        async with asyncio.timeout(6 * SECONDS):
            while lacking:
                await watched.work()
                found = await asyncio.gather(
                    *(asyncio.to_thread(asked, url, query) for _, query in lacking)
                )
                lacking = [each for each, some in zip(lacking, found, strict=True) if not some]
        down = await asyncio.to_thread(asked, url, "up == 0")
        firing = await asyncio.to_thread(asked, url, 'ALERTS{alertstate="firing"}')
    assert down == []
    assert [alert["metric"]["alertname"] for alert in firing] == []
