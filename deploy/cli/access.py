"""How a client gets in: an address, certificates in files, and an API key or token."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc

from core.errors import BadEnvironment
from core.rpc import CHANNEL_OPTIONS
from core.security.watched import read_file

API_KEY = "TRIREME_API_KEY"

Options = Sequence[tuple[str, int | str]]


@dataclass(frozen=True, slots=True)
class Access:
    """Plain settings, which other processes can be given.

    ca        signs the gateway's certificate; without it the connection is not encrypted
    cert      what this client shows, with its private key in `key`, where the gateway asks for it
    api_key   API key or token; sent over TLS, or to this very machine, and nowhere else
    """

    address: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    api_key: str = field(default="", repr=False)

    def open(self, options: Options = CHANNEL_OPTIONS) -> grpc.Channel:
        """A channel; raises BadEnvironment if a file cannot be read."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=list(options))
        return grpc.secure_channel(self.address, credentials, options=list(options))

    def open_async(self, options: Options = CHANNEL_OPTIONS) -> grpc.aio.Channel:
        """The same for asyncio."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=list(options))
        return grpc.aio.secure_channel(self.address, credentials, options=list(options))

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if (self.cert is None) != (self.key is None) or (self.cert and not self.ca):
            raise BadEnvironment(
                "are not all given",
                field="--ca, --cert, --key",
                remedy="give --ca alone, or all three",
            )
        encrypted = None if self.ca is None else self._ssl(self.ca)
        if not self.api_key:
            return encrypted
        # Local credentials connect to this machine only: nothing else is sent a key in the clear.
        return grpc.composite_channel_credentials(
            encrypted or grpc.local_channel_credentials(),
            grpc.access_token_call_credentials(self.api_key),
        )

    def _ssl(self, ca: Path) -> grpc.ChannelCredentials:
        key = None if self.key is None else read_file(self.key, "--key")
        cert = None if self.cert is None else read_file(self.cert, "--cert")
        return grpc.ssl_channel_credentials(read_file(ca, "--ca"), key, cert)


def chosen_access(address: str) -> Access:
    """As the command's options say; the API key stands in the environment, where no list of
    processes shows it."""
    said = click.get_current_context().find_root().meta
    return Access(
        address,
        ca=said.get("ca"),
        cert=said.get("cert"),
        key=said.get("key"),
        api_key=os.environ.get(API_KEY, "").strip(),
    )


def remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Keeps an option of a command for `chosen_access`."""
    context.find_root().meta[str(parameter.name)] = value
