"""What is written about the software is true of it."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from core import errors
from core.config import load
from deploy.cli.__main__ import main
from deploy.cli.index import IndexGroup
from gateway.config import GatewayConfig
from indexer.config import IndexerConfig
from shard.config import ShardConfig
from tests.guards import stubs
from trireme.v1 import error_reason_pb2

ROOT = stubs.ROOT
EXAMPLE = ROOT / "deploy" / "config.example.yaml"
ROLES = {"gateway": GatewayConfig, "shard": ShardConfig, "indexer": IndexerConfig}
PROSE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_lines(path: Path, start: str) -> list[str]:
    """Lines of code blocks that begin with a word, continuation lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith(start + " ")]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_setting_stands_in_the_example_with_its_default(role: str) -> None:
    kind: Any = ROLES[role]
    shown = yaml.safe_load(EXAMPLE.read_text())[role]

    assert set(shown) == {field.name for field in dataclasses.fields(kind)}
    config = load(kind, EXAMPLE, role)
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            assert getattr(config, field.name) == field.default, field.name


def test_every_setting_in_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text().splitlines()
    settings = [n for n, line in enumerate(lines) if re.match(r"  \w+:", line)]

    assert settings
    assert not [lines[n] for n in settings if not lines[n - 1].strip().startswith("#")]


def test_every_error_has_its_reason_in_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    sources = [p for folder in ("core", *ROLES, "deploy") for p in (ROOT / folder).rglob("*.py")]
    raised = {
        reason
        for path in sources
        for reason in re.findall(
            r"(?:InvalidInput|NotFound)\(\s*\"([A-Z0-9_]+)\"", path.read_text()
        )
    }
    declared = {
        kind.reason
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TriremeError)
    }

    assert raised | declared <= known
    used_as_data = {"OUT_OF_TIME", "NOT_YET_INDEXED", "UNSPECIFIED"}
    no_longer_used = {"FILTER_UNSUPPORTED"}
    assert known <= raised | declared | used_as_data | no_longer_used


def test_committed_stubs_are_fresh(tmp_path: Path) -> None:
    stubs.generate(tmp_path)

    assert stubs.differences(tmp_path, stubs.GENERATED) == []


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_every_trireme_command_in_the_prose_can_be_parsed(path: Path) -> None:
    for line in code_lines(path, "trireme"):
        words = shlex.split(line.partition(" #")[0])[1:]
        command: click.Command = main
        while isinstance(command, click.Group):
            if isinstance(command, IndexGroup):
                words = command.completed(words)
            name, words = words[0], words[1:]
            found = command.get_command(click.Context(command), name)
            assert found is not None, line
            command = found
        options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--"}
        assert used <= options | {"--help"}, line


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_every_make_target_in_the_prose_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

    for line in code_lines(path, "make"):
        assert line.split()[1] in targets, line


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())

    assert not [link for link in links if not (path.parent / link).exists()]


@pytest.mark.parametrize("package", ["core", "gateway", "shard", "indexer", "deploy"])
def test_every_package_says_what_it_is_and_may_import(package: str) -> None:
    prose = importlib.import_module(package).__doc__ or ""

    assert "Start with" in prose or "start" in prose.lower()
    assert "May import" in prose
