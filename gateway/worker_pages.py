"""One metrics page of the pages of all workers: every sample with the number of its worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.error import URLError
from urllib.request import Request, urlopen

from prometheus_client import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

LABEL = "worker"
# A worker that is busier than this misses one scrape; the others' samples must not wait for it.
_SECONDS = 1.0


class WorkerPages(Collector):
    """Asks the workers whenever it is asked; `ports` gives where on this machine, by number.

    Nothing is added up, since a sum is wrong for some gauges and would lose the exemplars.
    """

    def __init__(self, ports: Callable[[], Mapping[int, int]]) -> None:
        self._ports = ports

    def collect(self) -> Iterable[Metric]:
        """The families of all workers that answer."""
        found: dict[str, Metric] = {}
        for number, port in self._ports().items():
            for family in _families(number, port):
                known = found.setdefault(
                    family.name,
                    Metric(family.name, family.documentation, family.type, family.unit),
                )
                known.samples += [
                    sample._replace(labels={LABEL: str(number), **sample.labels})
                    for sample in family.samples
                ]
        return found.values()


def _families(number: int, port: int) -> Iterator[Metric]:
    request = Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": CONTENT_TYPE_LATEST})
    try:
        with urlopen(request, timeout=_SECONDS) as reply:
            text = reply.read().decode()
    except (URLError, OSError) as error:
        log.warning("worker has no metrics", extra={"worker": number, "why": str(error)})
        return
    yield from text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
