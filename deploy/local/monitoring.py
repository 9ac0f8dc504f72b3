"""A Prometheus configuration for a cluster on one machine: `prometheus --config.file FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from core.fsops import replace_file

RULES = Path(__file__).resolve().parents[1] / "chart" / "trireme" / "files" / "alerts.yaml"
SCRAPE_SECONDS = 5


def write_prometheus_config(
    file: Path, pages: Mapping[str, str], *, seconds: float = SCRAPE_SECONDS
) -> None:
    """Lists the metrics pages, given as name: `host:port`, with the alerts of the chart.

    A page is asked every `seconds`. Its series have the labels that the chart's ServiceMonitor
    gives: `instance` is the process, `job` what it does.
    """
    interval = f"{round(seconds * 1000)}ms"
    content = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "trireme",
                "static_configs": [
                    {
                        "targets": [address],
                        "labels": {"instance": name, "job": f"trireme-{name.partition('-')[0]}"},
                    }
                    for name, address in pages.items()
                ],
            }
        ],
    }
    replace_file(file, yaml.safe_dump(content, sort_keys=False).encode())
