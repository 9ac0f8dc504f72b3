"""Page tokens: where a listing goes on, in a form that callers cannot make up by accident."""

from __future__ import annotations

import base64
import binascii
import hashlib

from core.errors import InvalidInput

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

_DIGEST_BYTES = 8


def page_size(asked: int) -> int:
    """The page size to use; raises InvalidInput unless `asked` is 0 to 1,000."""
    if not 0 <= asked <= MAX_PAGE_SIZE:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"is {asked}",
            field="page_size",
            remedy=f"ask for 1 to {MAX_PAGE_SIZE:,}; 0 means {DEFAULT_PAGE_SIZE}",
        )
    return asked or DEFAULT_PAGE_SIZE


def token_after(listing: str, last: str) -> str:
    """The token of the page that follows `last` in the listing of that name."""
    return base64.urlsafe_b64encode(_digest(listing, last) + last.encode()).decode()


def last_of(listing: str, token: str) -> str:
    """What the token's page follows, "" for the first page.

    Raises InvalidInput (BAD_PAGE_TOKEN) if the token is not one of this listing.
    """
    if not token:
        return ""
    try:
        data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        digest, last = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeError) as error:
        raise _bad_token() from error
    if digest != _digest(listing, last):
        raise _bad_token()
    return last


def _digest(listing: str, last: str) -> bytes:
    return hashlib.blake2b(f"{listing}\n{last}".encode(), digest_size=_DIGEST_BYTES).digest()


def _bad_token() -> InvalidInput:
    return InvalidInput(
        "BAD_PAGE_TOKEN",
        "is not a token of this listing",
        field="page_token",
        remedy="start again with an empty token",
    )
