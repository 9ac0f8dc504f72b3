"""What can be told of the images without building them: what they hold, and that it is enough."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.deploy import packages
from tests.deploy.rendering import VALUES, changed, component, container, rendered

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "images" / "Dockerfile"
ROLES = ("gateway", "shard", "indexer")
TARGETS = (*ROLES, "shard-gpu", "triton", "tools")


def stages() -> dict[str, tuple[str, list[str]]]:
    """Of each stage: what it is made from, and its instructions, each in one line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not re.match(r"\s*#", line)]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: dict[str, tuple[str, list[str]]] = {}
    for line in instructions:
        if match := re.match(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = (match[1], [])
        elif found and line:
            found[list(found)[-1]][1].append(line)
    return found


def instructions(target: str) -> list[str]:
    """All instructions of a target, those of the stages below it first."""
    known = stages()
    below, own = known[target]
    return [*(instructions(below) if below in known else []), *own]


def copied(target: str) -> set[str]:
    """What a target copies of the project."""
    copies = [line.split()[1:] for line in instructions(target) if line.startswith("COPY ")]
    ours = [words for words in copies if not any(w.startswith("--from") for w in words)]
    return {next(word for word in words if not word.startswith("--")) for words in ours}


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    result = subprocess.run(
        [hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False
    )

    assert result.stdout + result.stderr == ""
    assert result.returncode == 0


def test_bases_have_a_version_down_to_the_patch() -> None:
    [base] = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), re.M)

    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    known = stages()
    assert {below for below, _ in known.values()} - known.keys() == {"${PYTHON}"}


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    last = [line for line in instructions(target) if line.startswith("USER ")][-1]

    assert last == "USER 65532:65532"


@pytest.mark.parametrize("role", ROLES)
def test_a_folder_is_an_image(role: str) -> None:
    assert copied(role) == {"protos/gen", "core", role}


@pytest.mark.parametrize("image", sorted(packages.ENTRY_POINTS))
def test_an_image_installs_what_its_code_imports_and_nothing_else(image: str) -> None:
    assert packages.read(image).keys() == packages.pins(image).keys(), (
        "python -m tests.deploy.packages --write"
    )


@pytest.mark.parametrize("image", sorted(packages.ENTRY_POINTS))
def test_pinned_versions_go_together(image: str) -> None:
    pinned = packages.read(image)
    wrong = [
        f"{name} needs {line}"
        for name in pinned.keys() - packages.WITHOUT_NEEDS
        for line in metadata.requires(name) or []
        if (needed := Requirement(line)).name in pinned
        and (needed.marker is None or needed.marker.evaluate({"extra": ""}))
        and not needed.specifier.contains(Version(pinned[needed.name]).public, prereleases=True)
    ]

    assert not wrong


@pytest.mark.parametrize("target", [*ROLES, "tools"])
def test_an_image_starts_with_its_packages_and_folders_alone(target: str, tmp_path: Path) -> None:
    image = tmp_path / "app"
    image.mkdir()
    for folder in copied(target) - {"model_repository"}:
        link = image / folder.partition("/")[0]
        link.symlink_to(ROOT / link.name)
    site = install(packages.read(target), tmp_path / "site-packages")
    [start] = [line for line in instructions(target) if line.startswith("ENTRYPOINT ")]
    [python, *words] = json.loads(start.removeprefix("ENTRYPOINT "))
    assert python == "python"
    result = subprocess.run(
        [sys.executable, "-S", *words, "--help"],
        env={"PYTHONPATH": f"{image}:{image}/protos/gen:{site}"},
        cwd=image,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "usage: " in result.stdout.lower()


def install(names: Iterable[str], site: Path) -> Path:
    """A directory with these packages alone, by links to those of this environment."""
    site.mkdir()
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            link = site / top
            if not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return site


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_image_of_the_chart_is_a_target_or_nvidias_own(name: str) -> None:
    for workload in rendered(name).workloads():
        image = container(workload)["image"]
        repository = image.rpartition("/")[2].partition(":")[0]
        if image.startswith("nvcr.io/"):
            assert component(workload) == "triton"
            continue
        assert repository.removeprefix("trireme-") in TARGETS
        known = {f"{port}" for port in re.findall(r"\d+", _exposed(repository))}
        assert known <= {str(port["containerPort"]) for port in container(workload)["ports"]}


def test_images_can_be_pinned_by_their_digest() -> None:
    digest = "sha256:" + "0" * 64
    release = changed("production", gateway={"image": {"digest": digest}})

    image = container(release.workload("gateway"))["image"]
    assert image == f"registry.example.org/search/trireme-gateway@{digest}"
    assert container(release.workload("indexer"))["image"].endswith("/trireme-indexer:0.1.0")


def _exposed(repository: str) -> str:
    lines = instructions(repository.removeprefix("trireme-"))
    return next(line for line in lines if line.startswith("EXPOSE "))
