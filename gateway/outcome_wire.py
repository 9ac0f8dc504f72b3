"""How a search of a batch or a stream failed, as callers see it."""

from __future__ import annotations

import re

from core.errors import TriremeError
from core.wire import batch_error_to_proto
from trireme.v1 import search_pb2

_FIELDS = frozenset(search_pb2.SearchRequest.DESCRIPTOR.fields_by_name)


def failed(error: TriremeError, path: str = "") -> search_pb2.SearchOutcome:
    """The failure; the field at fault is named from `path`, where the request stands."""
    message = batch_error_to_proto(error)
    message.field = message.field.removeprefix("request.")
    if path and re.split(r"[.\[]", error.field)[0] in _FIELDS:
        message.field = f"{path}.{error.field}"
        message.message = f"{path}.{error}"
    return search_pb2.SearchOutcome(error=message)
