"""An HTTP proxy in front of a real server that answers badly when it is told to.

Each entry of `faults` befalls one request whose method and path match, in turn; all others pass.
`seen` notes every request.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

REFUSE = "answers 503 without asking the server"
CUT = "sends half of the answer, then hangs up"
DROP = "asks the server, then hangs up without an answer"
GARBLE = "flips a bit in the middle of the answer"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to `times` requests of a method whose path contains `path`."""

    kind: str
    method: str
    path: str = ""
    times: int = 1


@dataclass
class FaultProxy:
    """`endpoint` is to be used in the place of the server's."""

    upstream: str
    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, path: str) -> str:
        """What befalls this request, empty for nothing."""
        with self._lock:
            self.seen.append(f"{method} {path}")
            for number, fault in enumerate(self.faults):
                if fault.method == method and fault.path in path:
                    left = Fault(fault.kind, fault.method, fault.path, fault.times - 1)
                    self.faults[number : number + 1] = [left] if left.times else []
                    return fault.kind
        return ""

    def count(self, method: str) -> int:
        """How many requests of a method were seen."""
        return sum(each.startswith(f"{method} ") for each in self.seen)


@contextmanager
def proxied(upstream: str) -> Iterator[FaultProxy]:
    """A proxy in front of `upstream` for the time of a block."""
    proxy = FaultProxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.next_fault(self.command, self.path)
            if fault == REFUSE:
                self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
                return
            status, headers, content = self._ask(body)
            if fault == DROP:
                self.close_connection = True
            elif fault == GARBLE:
                middle = len(content) // 2
                changed = bytes([content[middle] ^ 1])
                self._answer(status, headers, content[:middle] + changed + content[middle + 1 :])
            else:
                self._answer(status, headers, content, cut=fault == CUT)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            upstream = http.client.HTTPConnection(urlsplit(proxy.upstream).netloc)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            return answer.status, answer.getheaders(), content

        def _answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False
        ) -> None:
            ours = {"connection", "content-length", "date", "server", "transfer-encoding"}
            length = [v for k, v in headers if k.lower() == "content-length"]
            is_head = self.command == "HEAD"
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ours:
                    self.send_header(name, value)
            self.send_header(
                "Content-Length", length[0] if is_head and length else str(len(content))
            )
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

        def log_message(self, format: str, *args: object) -> None:
            """Tests print nothing."""

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    return Handler
