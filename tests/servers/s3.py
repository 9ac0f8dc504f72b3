"""Real S3 servers for tests: moto, which honours conditional PUTs, and s3rver, which checks keys.

Both keep their objects only as long as they run, and pick their ports.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.guards.stubs import ROOT

KEY, SECRET = "S3RVER", "S3RVER"
"""The only pair that s3rver knows; moto takes any."""

REGION = "us-east-1"
BUCKET = "trireme"
_S3RVER = ROOT / "node_modules" / "s3rver" / "bin" / "s3rver.js"
# Between looking for an object and writing it moto lets other requests through, which S3 does not.
_MOTO = """
import sys, threading
import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
application, one_by_one = DomainDispatcherApplication(create_backend_app), threading.Lock()
def atomic(environment, start_response):
    with one_by_one:
        return application(environment, start_response)
class Silent(WSGIRequestHandler):
    def log(self, *arguments):
        pass
server = make_server("127.0.0.1", 0, atomic, threaded=True, request_handler=Silent)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = "127.0.0.1:%d" % server.server_port
boto3.client("s3", endpoint_url="http://" + endpoint, region_name="us-east-1",
             aws_access_key_id="k", aws_secret_access_key="s").create_bucket(Bucket=sys.argv[1])
print("listening on " + endpoint, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server with one bucket; `endpoint` is its URL."""

    endpoint: str
    is_conditional: bool

    def new_url(self) -> str:
        """A prefix that nobody has used yet."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def raw(self, url: str) -> RawPrefix:
        """The objects of a prefix as they lie there."""
        prefix = url.removeprefix(f"s3://{BUCKET}/")
        store = S3Store(
            BUCKET,
            prefix=prefix,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        return RawPrefix(store)


@dataclass(frozen=True, slots=True)
class RawPrefix:
    """Reads and writes objects past everything that is tested."""

    store: S3Store

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def write(self, key: str, data: bytes) -> None:
        obstore.put(self.store, key, data)

    def remove(self, key: str) -> None:
        obstore.delete(self.store, key)

    def present(self) -> set[str]:
        return {each["path"] for each in obstore.list(self.store).collect()}


def why_not(name: str) -> str:
    """What is missing for the server of that name; empty if nothing is."""
    if name == "moto":
        found = all(importlib.util.find_spec(each) for each in ("moto", "flask", "flask_cors"))
        return "" if found else "moto is not installed: pip install moto flask flask-cors"
    if shutil.which("node") is None:
        return "node is not installed, so s3rver cannot run"
    return "" if _S3RVER.exists() else "s3rver is not installed: make buf"


@contextmanager
def running(name: str, folder: Path) -> Iterator[S3Server]:
    """The server "moto" or "s3rver" for the time of a block; `folder` is for its files."""
    arguments: Callable[[], list[str]] = {
        "moto": lambda: [sys.executable, "-c", _MOTO, BUCKET],
        "s3rver": lambda: [
            *(str(shutil.which("node")), str(_S3RVER), "--directory", str(folder)),
            *("--address", "127.0.0.1", "--port", "0", "--configure-bucket", BUCKET),
        ],
    }[name]
    process = subprocess.Popen(
        arguments(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                yield S3Server(f"http://127.0.0.1:{found.group(1)}", name == "moto")
                break
        else:
            raise RuntimeError(f"{name} ended before it listened")
    finally:
        process.kill()
        process.communicate()
