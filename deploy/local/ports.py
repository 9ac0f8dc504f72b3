"""Ports that are free and stay so while their owner restarts."""

from __future__ import annotations

import random
from pathlib import Path

from core.errors import BadEnvironment
from core.role_server import check_free

_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES_PER_PORT = 100


def free_ports(count: int, host: str) -> list[int]:
    """Picks free ports below the range that the kernel gives to outgoing connections.

    One from that range could be taken while its owner restarts. Raises BadEnvironment if there are
    too few.
    """
    end = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    found: list[int] = []
    for port in random.sample(range(_LOWEST, max(end, _LOWEST + 20_000)), count * _TRIES_PER_PORT):
        if len(found) == count:
            break
        try:
            check_free(f"{host}:{port}")
        except BadEnvironment:
            continue
        found.append(port)
    if len(found) < count:
        raise BadEnvironment(f"there are no {count} free ports at {host}")
    return found
