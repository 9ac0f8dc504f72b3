"""Who calls: a name, and what it may do with which collections. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from core.errors import InvalidInput, PermissionDenied
from core.security.quotas import UNLIMITED, Meter

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)

_GRANT = re.compile(r"(read|write|admin):([a-z0-9_*-]{1,63})")


@dataclass(frozen=True, slots=True)
class Grant:
    """One right: a scope, and the names of collections and aliases that it holds for.

    In `pattern`, `*` stands for any characters. `admin` includes the others; these do not include
    each other: who fills a collection need not be able to read it.
    """

    scope: str
    pattern: str

    @classmethod
    def parse(cls, text: str, where: str = "grants") -> Grant:
        """`read:papers-*` as a grant; raises InvalidInput."""
        found = _GRANT.fullmatch(text)
        if found is None:
            raise InvalidInput(
                "MALFORMED",
                f"{text!r} is not SCOPE:PATTERN",
                field=where,
                remedy="write it as read:papers-*, with read, write or admin, and a name or "
                "pattern of names",
            )
        return cls(found[1], found[2])

    def allows(self, scope: str, collection: str) -> bool:
        """Whether it holds for a collection, its own second indexes (`name~2`) included."""
        return self.scope in (scope, ADMIN) and fnmatchcase(
            collection.partition("~")[0], self.pattern
        )

    def __str__(self) -> str:
        return f"{self.scope}:{self.pattern}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what it may do. `weight` is its share when callers compete."""

    name: str
    grants: tuple[Grant, ...] = ()
    weight: float = 1.0
    meter: Meter = field(default=UNLIMITED, compare=False, repr=False)

    def may(self, scope: str, collection: str) -> bool:
        """Whether it has the scope for the collection or alias of that name."""
        return any(grant.allows(scope, collection) for grant in self.grants)

    def may_everywhere(self, scope: str) -> bool:
        """Whether it has the scope for every collection."""
        return any(grant.pattern == "*" and grant.scope in (scope, ADMIN) for grant in self.grants)

    def require(self, scope: str, collections: Iterable[str]) -> None:
        """Raises PermissionDenied unless it has the scope for each of the collections."""
        for collection in collections:
            if not self.may(scope, collection):
                # The same words whether there is such a collection or not.
                raise denied(scope, f"collection {collection!r}")

    def require_somewhere(self, scope: str) -> None:
        """Raises PermissionDenied unless it has the scope for some collection."""
        if not any(grant.scope in (scope, ADMIN) for grant in self.grants):
            raise denied(scope, "any collection")

    def require_everywhere(self, scope: str) -> None:
        """Raises PermissionDenied unless it has the scope for every collection."""
        if not self.may_everywhere(scope):
            raise denied(scope, "all collections")


ANYBODY = Caller("", (Grant(ADMIN, "*"),))
"""The caller where security is off, and the role itself in its own work."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """The caller on whose behalf this task works."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Makes it the caller of this task, and of those that it starts."""
    _current.set(caller)


def denied(scope: str, what: str) -> PermissionDenied:
    """The refusal of a caller that has not got a scope."""
    return PermissionDenied(
        f"these credentials do not hold {scope!r} for {what}",
        remedy="ask for a key or token that does",
    )
