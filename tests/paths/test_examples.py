"""The examples in docs/examples do what they say, against a family."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.children import same_python
from tests.paths.conftest import Family

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
BUF = ROOT / "node_modules" / ".bin" / "buf"


async def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; fails with its complaints if it does."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=same_python(os.environ) | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return output.decode()


@pytest_asyncio.fixture
async def ships(family: Family, collection: str) -> str:
    texts = {"a": "ships with sails", "b": "ships with oars", "c": "a tax on salt"}
    position = await family.put(collection, **texts)
    await family.search(collection, "ships", min_position=position)
    return collection


async def test_the_first_example_finds_what_it_wrote(family: Family) -> None:
    output = await run(sys.executable, EXAMPLES / "search.py", family.cluster.address)

    assert len(output.splitlines()) == 3
    assert "rowed by 170 men" in output.splitlines()[0]


async def test_the_asyncio_example_asks_everything(family: Family, ships: str) -> None:
    script = EXAMPLES / "search_asyncio.py"

    output = await run(sys.executable, script, ships, family.cluster.address)

    assert output.splitlines() == [
        "ships with sails: a",
        "ships with oars: b",
        "a tax on salt: c",
    ]


@pytest.mark.skipif(not BUF.exists(), reason="buf is not installed: make buf")
async def test_the_shell_example_needs_buf_alone(family: Family, ships: str) -> None:
    script = EXAMPLES / "search.sh"

    output = await run("sh", script, ships, "a tax on salt", family.cluster.address, BUF=str(BUF))

    assert f'"name": "{ships}"' in output.replace('":"', '": "')
    assert output.index('"c"') < output.index('"a"')


@pytest_asyncio.fixture(scope="module")
async def node_example(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A copy of the Node example with its packages."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed (Debian: apt-get install npm)")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLES / "node", folder)
    install = await asyncio.create_subprocess_exec(
        npm,
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await install.wait() != 0:
        pytest.skip("npm cannot install @grpc/grpc-js here")
    yield folder


async def test_the_node_example_searches(family: Family, ships: str, node_example: Path) -> None:
    script = node_example / "search.js"
    protos = str(ROOT / "protos")
    words = (ships, "a tax on salt", family.cluster.address)

    output = await run("node", script, *words, TRIREME_PROTOS=protos)

    assert output.splitlines()[0].endswith("c a tax on salt")
