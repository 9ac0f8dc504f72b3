"""What goes wrong with an object store, in our words. Messages never quote its replies whole.

A refused signature is answered with what was signed, and with whose key; so only the error code is
taken from a reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from core.errors import BadEnvironment, IndexStoreUnavailable

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_REFUSED = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)


class Missing(Exception):
    """There is no object under that key."""


@contextmanager
def store_errors(where: str, what: str) -> Iterator[None]:
    """Turns what the store's library raises inside the block into one of ours.

    Raises Missing, BadEnvironment if settings are wrong, else IndexStoreUnavailable.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        code = code_of(error)
        if code == "NoSuchBucket":
            raise BadEnvironment(
                f"{where} is in a bucket that is not there",
                field="index_url",
                remedy="make the bucket, or name another one",
            ) from error
        if isinstance(error, FileNotFoundError):
            raise Missing(what) from error
        is_refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if is_refused or code in _REFUSED:
            raise BadEnvironment(
                f"{where} refuses us ({code or 'no permission'}) when we {what}",
                field="index_url",
                remedy=f"set {CREDENTIALS}, and let them read, write, list and remove there",
            ) from error
        raise IndexStoreUnavailable(
            f"{where} does not answer as it should ({code or 'no answer'}) when we {what}",
            remedy="it is tried again; see whether the service and the network are well",
        ) from error


def code_of(error: BaseException) -> str:
    """The store's own error code, else the HTTP status, empty if there is neither."""
    text = str(error)
    found = _CODE.search(text) or _STATUS.search(text)
    return found.group(1) if found is not None else ""
