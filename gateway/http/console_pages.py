"""The console's files, read once; nothing else can be asked for by path."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parent / "console"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# The page may load its own files and ask its own origin, and nothing else may happen in it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class ConsolePages:
    """Serves the files of the folder `console`; they hold no data, so that they are open to all."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir())}

    async def page(self, _: web.Request) -> web.Response:
        """The page itself; the others are beside it, so its path must end in a slash."""
        raise web.HTTPPermanentRedirect("/console/")

    async def file(self, request: web.Request) -> web.Response:
        """One file by its name."""
        name = request.match_info["file"] or "index.html"
        content = self._files.get(name)
        if content is None:
            raise web.HTTPNotFound
        response = web.Response(
            body=content,
            content_type=_TYPES[Path(name).suffix],
            charset="utf-8",
            headers=HEADERS,
        )
        response.etag = hashlib.sha256(content).hexdigest()
        return response
