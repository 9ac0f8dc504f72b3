"""TLS of every connection between roles and with clients, from files that may change at any time.

A role shows one certificate, to those who call it and to those whom it calls. Servers hand new
connections the certificate that is there at that moment; clients open a new channel when theirs
has changed. What is open stays open.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from core.errors import BadEnvironment
from core.security.watched import Watched, read_file

_FIELDS = ("tls_certificate_file", "tls_key_file", "tls_ca_file", "tls_client_ca_file")


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold, as PEM; None where none is named."""

    chain: bytes | None
    key: bytes | None
    ca: bytes | None
    client_ca: bytes | None

    def for_server(self) -> Any:
        """What a server shows, and whom it trusts."""
        assert self.key is not None
        assert self.chain is not None
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.chain)], root_certificates=self.client_ca
        )

    def for_channel(self) -> grpc.ChannelCredentials:
        """Whom a client trusts, and what it shows if it has something."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.chain)


@dataclass(frozen=True)
class TlsSettings:
    """The settings `tls_*` of a role.

    tls_certificate_file  PEM chain that this role shows; with it the role's server speaks TLS
    tls_key_file          its private key
    tls_ca_file           signs the certificates of the roles that this one calls; without it they
                          are called without TLS
    tls_client_ca_file    signs the certificates of those who may call; without it none is asked for
    """

    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_client_ca_file: Path | None = None

    @classmethod
    def of(cls, config: object) -> TlsSettings:
        """Those of a role's configuration."""
        return cls(**{name: getattr(config, name) for name in _FIELDS})

    @classmethod
    def for_triton(cls, config: Any) -> TlsSettings:
        """Those for calls to Triton: none unless it speaks TLS too."""
        if not config.tls_triton:
            return NO_TLS
        if config.tls_ca_file is None:
            raise BadEnvironment(
                "is missing though tls_triton is set",
                field="tls_ca_file",
                remedy="name the CA that signs Triton's certificate",
            )
        return cls.of(config)

    @classmethod
    def of_mapping(cls, settings: Mapping[str, Any]) -> TlsSettings:
        """Those of plain values, as in a configuration file."""
        named = {field.name: settings.get(field.name) for field in fields(cls)}
        return cls(**{name: Path(value) for name, value in named.items() if value})

    @property
    def serves(self) -> bool:
        """Whether the role's server speaks TLS."""
        return self.tls_certificate_file is not None

    @property
    def calls(self) -> bool:
        """Whether the role calls others by TLS."""
        return self.tls_ca_file is not None

    @cached_property
    def certificates(self) -> Watched[Certificates]:
        """What the files hold; raises BadEnvironment if they do not belong together."""
        paths = [path for name in _FIELDS if (path := getattr(self, name)) is not None]
        return Watched(paths, self._read, "tls_...")

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server that shows what the files hold whenever somebody connects."""
        self._check_server()
        watched = self.certificates
        return grpc.dynamic_ssl_server_credentials(
            watched.value.for_server(),
            lambda: watched.current(within_seconds=0).for_server(),
            require_client_authentication=self.tls_client_ca_file is not None,
        )

    def server_context(self) -> ssl.SSLContext | None:
        """The same for an HTTPS server, as the files are now; None without TLS."""
        if not self.serves:
            return None
        self._check_server()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.tls_certificate_file or "", self.tls_key_file)
        if self.tls_client_ca_file is not None:
            context.load_verify_locations(self.tls_client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _check_server(self) -> None:
        if self.tls_client_ca_file is not None and self.tls_certificate_file is None:
            raise BadEnvironment(
                "is missing though tls_client_ca_file is set",
                field="tls_certificate_file",
                remedy="name the certificate that this role shows",
            )

    def _read(self) -> Certificates:
        self._check_pair()
        found = {name: self._content(name) for name in _FIELDS}
        return Certificates(*found.values())

    def _content(self, name: str) -> bytes | None:
        path: Path | None = getattr(self, name)
        if path is None:
            return None
        content = read_file(path, name)
        if b"-----BEGIN " not in content:
            raise BadEnvironment(f"{path} is not PEM", field=name, remedy="name a PEM file")
        return content

    def _check_pair(self) -> None:
        """Raises BadEnvironment unless key and certificate are there and belong together."""
        chain, key = self.tls_certificate_file, self.tls_key_file
        if (chain is None) != (key is None):
            raise BadEnvironment(
                "are not both set",
                field="tls_certificate_file, tls_key_file",
                remedy="name both files or neither",
            )
        if chain is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
        except (OSError, ssl.SSLError) as error:
            raise BadEnvironment(
                f"{chain} and {key} cannot be used: {error}",
                field="tls_certificate_file, tls_key_file",
                remedy="name a certificate and its own key, without a passphrase, both PEM",
            ) from error


NO_TLS = TlsSettings()
