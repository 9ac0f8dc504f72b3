"""Between the message about a collection's attributes and what it says."""

from __future__ import annotations

from core.filters.schema import (
    BOOL,
    NUMBER,
    STRING,
    STRINGS,
    TIMESTAMP,
    Attribute,
    Schema,
    declare,
)
from trireme.v1 import filter_pb2

_TO_PROTO = {
    STRING: filter_pb2.ATTRIBUTE_TYPE_STRING,
    NUMBER: filter_pb2.ATTRIBUTE_TYPE_NUMBER,
    BOOL: filter_pb2.ATTRIBUTE_TYPE_BOOL,
    TIMESTAMP: filter_pb2.ATTRIBUTE_TYPE_TIMESTAMP,
    STRINGS: filter_pb2.ATTRIBUTE_TYPE_STRINGS,
}
_FROM_PROTO = {number: name for name, number in _TO_PROTO.items()}


def declared_from_proto(message: filter_pb2.CollectionSchema, path: str) -> Schema:
    """The schema that a caller declares; raises InvalidInput naming the field at fault."""
    attributes = [
        Attribute(each.name, _FROM_PROTO.get(each.type, "")) for each in message.attributes
    ]
    return declare(attributes, message.closed, f"{path}.attributes")


def schema_to_proto(schema: Schema) -> filter_pb2.CollectionSchema:
    """What is known: the declared attributes, then those that documents have besides."""
    declared = {each.name for each in schema.declared}
    besides = [each for each in schema.seen if each.name not in declared]
    return filter_pb2.CollectionSchema(
        attributes=[
            filter_pb2.AttributeField(name=each.name, type=_TO_PROTO[each.type], seen=seen)
            for group, seen in ((schema.declared, False), (besides, True))
            for each in group
        ],
        closed=schema.closed,
        complete=schema.complete,
    )


def schema_from_proto(message: filter_pb2.CollectionSchema) -> Schema:
    """The inverse of `schema_to_proto`."""
    both = [
        (Attribute(each.name, _FROM_PROTO[each.type]), each.seen) for each in message.attributes
    ]
    return Schema(
        declared=tuple(each for each, seen in both if not seen),
        closed=message.closed,
        seen=tuple(each for each, seen in both if seen),
        complete=message.complete,
    )
