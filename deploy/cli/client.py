"""What every subcommand needs: an address, a channel, and errors a person can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
from rich.console import Console

from core.errors import TriremeError
from core.rpc import reason_of
from deploy.cli.access import chosen_access, remember

DEFAULT_STATE = Path(".trireme")
_FILES = {
    "key": "Private key of --cert (PEM). An API key or token goes into TRIREME_API_KEY.",
    "cert": "Certificate that this client shows (PEM), where the gateway asks for one.",
    "ca": "CA that signs the gateway's certificate (PEM): connect by TLS.",
}
console = Console()
errors = Console(stderr=True)

Function = TypeVar("Function", bound=Callable[..., Any])


def address_option(function: Function) -> Function:
    """Adds `--address` and how to get in there: `--ca`, `--cert` and `--key`.

    The address is TRIREME_ADDRESS by default, else that of the cluster started in this folder. The
    others are kept for `connected`.
    """
    option = click.option(
        "--address",
        metavar="HOST:PORT",
        envvar="TRIREME_ADDRESS",
        help="Gateway to ask. Default: the one that `trireme up` started in this folder.",
    )
    for name, what in _FILES.items():
        function = click.option(
            f"--{name}",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar=f"TRIREME_{name.upper()}",
            expose_value=False,
            callback=remember,
            help=what,
        )(function)
    return option(function)


def resolve(address: str | None) -> str:
    """The gateway's address as given or as written by `trireme up`, else click.UsageError."""
    if address:
        return address
    path = DEFAULT_STATE / "address"
    try:
        return path.read_text().strip()
    except OSError:
        raise click.UsageError(
            f"no --address was given and there is no {path}; start a cluster with `trireme up`, "
            "or say where one is"
        ) from None


@contextmanager
def connected(address: str | None) -> Iterator[grpc.Channel]:
    """A channel to the gateway, as the command's options and TRIREME_API_KEY say."""
    with chosen_access(resolve(address)).open() as channel:
        yield channel


def readable_errors(function: Function) -> Function:
    """Ends the command with one clear message and exit code 1 instead of a stack trace."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except grpc.RpcError as error:
            raise click.ClickException(explain(error, kwargs.get("address"))) from error
        except TriremeError as error:
            raise click.ClickException(f"{error} [{error.reason}]") from error

    return command  # type: ignore[return-value]


def explain(error: grpc.RpcError, address: str | None) -> str:
    """A failed call in one line: what failed, why, what to do."""
    reason = reason_of(error)
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        where = resolve(address)
        return (
            f"nothing answers at {where}; is the cluster up? (`trireme up`, or give --address, and "
            f"--ca if it speaks TLS) [{details}]"
        )
    return f"{details} [{reason or code.name}]"
