"""Pages of a listing that show a caller what it may see, and nothing of what lies between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.decoding import decode
from core.security.caller import Caller
from gateway.rights_wire import Rule, reply_type, request_type

MOST_AT_ONCE = 1_000
DEFAULT_PAGE_SIZE = 100

Ask = Callable[[bytes], Awaitable[bytes]]


async def visible_page(path: str, rule: Rule, caller: Caller, data: bytes, ask: Ask) -> bytes:
    """The reply to a listing's request `data`, of which `ask` gives the whole.

    Goes on over pages until the wanted number is found. Page tokens hold the name of the last
    entry, so that of the reply is asked for anew, of a page that ends with a visible one.
    """
    request: Any = decode(request_type(path), data)
    if not 0 <= request.page_size <= MOST_AT_ONCE:
        return await ask(data)
    wanted = request.page_size or DEFAULT_PAGE_SIZE
    page: Any = reply_type(path)()
    shown = getattr(page, rule.listing)

    async def ask_for(size: int) -> Any:
        request.page_size = size
        return reply_type(path).FromString(await ask(request.SerializeToString()))

    while True:
        found = await ask_for(MOST_AT_ONCE)
        for number, entry in enumerate(getattr(found, rule.listing), start=1):
            if not caller.may(rule.scope, getattr(entry, rule.listed)):
                continue
            if len(shown) == wanted:
                return bytes(page.SerializeToString())
            shown.append(entry)
            if len(shown) == wanted:
                token = await _token_after(ask_for, number, rule, entry)
                if token is None:
                    return await visible_page(path, rule, caller, data, ask)
                page.next_page_token = token
        if not found.next_page_token:
            page.next_page_token = ""
            return bytes(page.SerializeToString())
        request.page_token = found.next_page_token


async def _token_after(
    ask_for: Callable[[int], Awaitable[Any]], number: int, rule: Rule, entry: Any
) -> str | None:
    """The token of the page after `entry`; None if entries came or went meanwhile."""
    exact = await ask_for(number)
    entries = getattr(exact, rule.listing)
    same = len(entries) == number and entries[-1].name == entry.name
    return str(exact.next_page_token) if same else None
