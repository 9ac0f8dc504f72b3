"""Request ids: a batch sent again gets the answer it got the first time."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from indexer.clock import now_micros
from indexer.tables import request

KEEP_MICROS = 24 * 3600 * 1_000_000


def answer_to(
    connection: Connection, uid: str, kind: str, request_id: str
) -> dict[str, Any] | None:
    """The answer given to this request id before, None if there was none or it has none."""
    if not request_id:
        return None
    chosen = select(request.c.answer).where(
        request.c.uid == uid,
        request.c.kind == kind,
        request.c.request_id == request_id,
        request.c.create_micros > now_micros() - KEEP_MICROS,
    )
    found = connection.execute(chosen).scalar_one_or_none()
    return json.loads(found) if found is not None else None


def remember(
    connection: Connection, uid: str, kind: str, request_id: str, answer: dict[str, Any]
) -> None:
    """Keeps an answer for a day, and drops those that are older."""
    if not request_id:
        return
    now = now_micros()
    connection.execute(delete(request).where(request.c.create_micros <= now - KEEP_MICROS))
    connection.execute(
        insert(request).values(
            uid=uid, kind=kind, request_id=request_id, answer=json.dumps(answer), create_micros=now
        )
    )
