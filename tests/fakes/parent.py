"""A process with children, to be killed: `python -m tests.fakes.parent DIRECTORY [--triton]`.

Prints one line of JSON once its children run, then waits for ever; ends in order when its standard
input closes. With --triton its child is a supervised Triton over the project's models.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from deploy.local.children import Children, same_python
from deploy.local.cluster import MODEL_REPOSITORY
from deploy.local.ports import free_ports
from deploy.local.reaper import SHARED_MEMORY
from deploy.local.state import State
from deploy.local.supervisor import Supervisor
from deploy.local.triton import TritonConfig, TritonServer

# A child with a child of its own that has left its session.
_FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").close()
time.sleep(600)
"""


async def main() -> None:
    """Starts the children, says so, and waits."""
    directory = Path(sys.argv[1])
    state = await State.open(directory, shards=1)
    children = await Children.create(keep_open=state.lock)
    (SHARED_MEMORY / f"{children.shared_memory_prefix}left").touch()
    address = ""
    if "--triton" in sys.argv:
        grpc_port, metrics_port = free_ports(2, "127.0.0.1")
        config = TritonConfig(
            MODEL_REPOSITORY, state.triton, grpc_port, metrics_port, state.logs / "triton.log"
        )
        supervisor = Supervisor(TritonServer.create(config, children), lambda _: None)
        await supervisor.start()
        address = config.address
    else:
        await _spawn_family(children, state)
    line = {"address": address, "shared_memory_prefix": children.shared_memory_prefix}
    print(json.dumps(line), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await children.stop()


async def _spawn_family(children: Children, state: State) -> None:
    started = state.path / "started"
    command: list[str | Path] = [sys.executable, "-c", _FAMILY, started]
    await children.spawn(command, same_python(os.environ), state.logs / "family.log")
    while not started.exists():
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
