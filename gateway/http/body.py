"""Reads a request's JSON, field by field; what is not known is refused, never ignored."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from core.errors import InvalidInput

# A MiB of text, the most that any door takes, with its characters escaped.
MAX_BODY_BYTES = 8 * 1024 * 1024


async def read_text(request: web.Request) -> str:
    """The body of a request whose type is JSON; raises InvalidInput.

    The type is asked for because a browser sends it across origins only with leave, which nobody is
    given here.
    """
    if request.content_type != "application/json":
        raise InvalidInput(
            "MALFORMED",
            f"is {request.content_type}",
            field="content-type",
            remedy="send application/json",
        )
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "NOT_UTF8", "the body is not UTF-8", field="", remedy="encode it as UTF-8"
        ) from error


class Body:
    """A JSON object whose fields are taken one by one; `done` refuses what is left."""

    def __init__(self, text: str) -> None:
        """Raises InvalidInput unless `text` is an object."""
        try:
            values = json.loads(text, parse_constant=_no_number)
            json.dumps(values, ensure_ascii=False).encode() if "\\u" in text else None
        except UnicodeEncodeError as error:
            raise InvalidInput(
                "NOT_UTF8", "half of a surrogate pair stands alone", field="body"
            ) from error
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                "MALFORMED", f"is not JSON: {error}", field="body", remedy="send an object"
            ) from error
        if not isinstance(values, dict):
            raise InvalidInput(
                "MALFORMED", "is not a JSON object", field="body", remedy="send an object"
            )
        self._values: dict[str, Any] = values

    def text(self, name: str, default: str = "") -> str:
        """A string, `default` if it is absent or null."""
        value = self._take(name, default)
        return value if isinstance(value, str) else self._refuse(name, "a string")

    def whole(self, name: str) -> int | None:
        """A whole number within 32 bits, None if it is absent or null."""
        value = self._take(name, None)
        if value is None or (type(value) is int and abs(value) < 2**31):
            return value
        return self._refuse(name, "a whole number")

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        value = self._take(name, [])
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        return self._refuse(name, "a list of strings")

    def text_or_texts(self, name: str) -> list[str]:
        """A list of strings, or one string for a list of it alone."""
        if isinstance(self._values.get(name), str):
            return [self.text(name)]
        return self.texts(name)

    def done(self) -> None:
        """Raises InvalidInput if there is a field that nobody took."""
        for name in self._values:
            raise InvalidInput(
                "MALFORMED", "is not a field of this call", field=name, remedy="leave it out"
            )

    def _take(self, name: str, default: Any) -> Any:
        value = self._values.pop(name, None)
        return default if value is None else value

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise InvalidInput("MALFORMED", f"is not {wanted}", field=name, remedy=f"give {wanted}")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")
