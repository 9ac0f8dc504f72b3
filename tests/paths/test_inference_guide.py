"""The examples of docs/inference.md run as they stand."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from core import fsops
from tests.fakes.inference import SECONDS, serving
from tests.fakes.triton import FakeTriton

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "inference.md"


async def test_the_examples_run_one_after_another(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert len(examples) >= 6
    async with (
        FakeTriton() as triton,
        serving(triton.address, triton.model_directory) as service,
    ):
        (tmp_path / ".trireme").mkdir()
        fsops.replace_file(tmp_path / ".trireme" / "address", service.address.encode())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "ignore::ResourceWarning", "-c", "\n".join(examples)),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(2 * SECONDS):
            output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    lines = output.decode().splitlines()
    assert lines[0].startswith("bi_encoder 1 cosine")
    assert "(3, 32) 32 bytes" in lines
    assert lines[-3:] == ["from 0 2 vectors", "from 2 FIELD_REQUIRED texts[1]", "from 4 1 vectors"]
