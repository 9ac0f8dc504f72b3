"""What stands on the right of a comparison, and what it is as a value of each type."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_ESCAPED = re.compile(r"[\"\\*]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Literal:
    """A text; where it was cut into `pieces`, a wildcard `*` stands for any text between them."""

    pieces: tuple[str, ...]
    is_quoted: bool = True

    @property
    def text(self) -> str:
        """The text with its wildcards as stars."""
        return "*".join(self.pieces)

    @property
    def number(self) -> float | None:
        """The number that is meant, None if it is none; a quoted text never is."""
        if self.is_quoted or not _NUMBER.fullmatch(self.text):
            return None
        value = float(self.text)
        return value if math.isfinite(value) else None

    @property
    def truth(self) -> bool | None:
        """The truth value that is meant, None if it is none; a quoted text never is."""
        return None if self.is_quoted else {"true": True, "false": False}.get(self.text)

    @property
    def microseconds(self) -> int | None:
        """Microseconds since 1970 of the moment (RFC 3339) that is meant, None if it is none.

        Digits finer than microseconds are dropped, as they are in stored values.
        """
        found = _MOMENT.fullmatch(self.text)
        if found is None:
            return None
        *parts, fraction, sign, hours, minutes = found.groups()
        micros = int((fraction or "")[:6].ljust(6, "0"))
        away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if away >= timedelta(days=1):
            return None
        zone = timezone(-away if sign == "-" else away)
        year, month, day, hour, minute, second = map(int, parts)
        try:
            moment = datetime(year, month, day, hour, minute, second, micros, zone)
        except ValueError:
            return None
        return microseconds(moment)

    def __str__(self) -> str:
        return '"' + "*".join(map(_escaped, self.pieces)) + '"' if self.is_quoted else self.text


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def unquoted(token: str) -> Literal:
    """The literal that a quoted token is; a backslash takes the meaning from what follows."""
    pieces, current, escaped = [], "", False
    for character in token[1:-1]:
        if escaped or character not in "\\*":
            current += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            pieces.append(current)
            current = ""
    return Literal((*pieces, current))


def bare(token: str) -> Literal:
    """The literal that a token without quotes is; with wildcards it can only be a text."""
    pieces = tuple(token.split("*"))
    return Literal(pieces, is_quoted=len(pieces) > 1)


def quoted(text: str) -> str:
    """A text as a quoted token."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"\\{found.group()}", text)
