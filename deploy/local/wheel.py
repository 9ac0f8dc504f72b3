"""Finds the Triton server of the nvidia-pytriton wheel, and the libpython that it needs."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadEnvironment

_INSTALL = "pip install 'trireme[local]' (Linux on x86-64 or arm64)"


@dataclass(frozen=True, slots=True)
class Wheel:
    """Where things are: all of them exist."""

    server: Path
    libraries: Path
    python_backend: Path
    stub: Path
    libpython: Path
    packages: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """This process's environment, fit for the server and for the Python inside its backend."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        libraries = (str(self.libraries), str(self.libpython.parent))
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
        kept["PYTHONPATH"] = os.pathsep.join(map(str, self.packages))
        # The Python inside ignores PYTHONHOME; its standard library is that of `python3` in PATH.
        kept["PATH"] = os.pathsep.join((f"{sys.base_prefix}/bin", kept.get("PATH", os.defpath)))
        return kept


def find_wheel(libpython_directories: Sequence[Path] | None = None) -> Wheel:
    """Finds everything without importing pytriton; raises BadEnvironment saying what to install."""
    package = _package("pytriton", "nvidia-pytriton")
    server = package / "tritonserver"
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / minor / "triton_python_backend_stub"
    if not stub.exists():
        raise BadEnvironment(
            f"nvidia-pytriton has no Python backend for Python {minor}",
            field=str(stub),
            remedy="use Python 3.11 to 3.13",
        )
    return Wheel(
        server=server / "bin" / "tritonserver",
        libraries=package.parent / "nvidia_pytriton.libs",
        python_backend=server / "backends" / "python",
        stub=stub,
        libpython=find_libpython(
            python_library_directories() if libpython_directories is None else libpython_directories
        ),
        packages=tuple(dict.fromkeys(_package(name, name).parent for name in ("torch", "numpy"))),
    )


def python_library_directories() -> list[Path]:
    """Where this Python's shared library may be: the interpreter's own place, then the system's."""
    own = sysconfig.get_config_var("LIBDIR")
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    system = (f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/usr/lib64", "/usr/lib", "/lib")
    return [Path(directory) for directory in (own, *system, "/usr/local/lib") if directory]


def find_libpython(directories: Sequence[Path]) -> Path:
    """The shared library of this Python's minor version; raises BadEnvironment if it is nowhere."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{minor}.so.1.0"
    for directory in directories:
        if (directory / name).exists():
            return directory / name
    raise BadEnvironment(
        f"{name} is not on this machine, and Triton's Python backend needs it",
        field=", ".join(map(str, directories)),
        remedy=f"install it: `apt install libpython{minor}` on Debian and Ubuntu, "
        f"`dnf install python{minor}-libs` on Fedora",
    )


def _package(module: str, distribution: str) -> Path:
    """The directory of an installed package; raises BadEnvironment if there is none."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BadEnvironment(f"{distribution} is not installed", remedy=_INSTALL)
    return Path(spec.submodule_search_locations[0])
