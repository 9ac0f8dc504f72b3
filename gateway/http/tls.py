"""TLS of the HTTP doors: the certificate of the gateway's gRPC port, whenever somebody connects."""

from __future__ import annotations

import ssl

from core.security.tls import TlsSettings
from core.security.watched import Watched


def https_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """What new connections are shown, as the files then are; None if the gateway has no TLS."""
    first = tls.server_context()
    if first is None:
        return None
    paths = (tls.tls_certificate_file, tls.tls_key_file, tls.tls_client_ca_file)
    watched = Watched(
        [path for path in paths if path is not None], tls.server_context, "tls_certificate_file"
    )

    def renew(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        current = watched.current(within_seconds=0)
        assert current is not None
        connection.context = current

    # OpenSSL asks at every handshake, whether the client names a server or not.
    first.sni_callback = renew
    return first
