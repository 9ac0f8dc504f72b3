"""Between the message about required and excluded words and what it says."""

from __future__ import annotations

from core.query_syntax import Constraint
from trireme.shard.v1 import shard_pb2


def constraint_to_proto(constraint: Constraint | None) -> shard_pb2.Constraint | None:
    """The message that says the same; None if nothing is said."""
    if constraint is None:
        return None
    return shard_pb2.Constraint(required=constraint.required, excluded=constraint.excluded)


def constraint_from_proto(message: shard_pb2.Constraint) -> Constraint | None:
    """What a message says; None if that is nothing."""
    found = Constraint(tuple(message.required), tuple(message.excluded))
    return None if found == Constraint() else found
