"""Between protobuf messages and the values that the rest of the code knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from core.documents import AttributeValue, Document, Position
from core.errors import InvalidInput, TriremeError
from trireme.v1 import document_pb2


def document_from_proto(message: document_pb2.Document, path: str) -> Document:
    """The document that a caller sent; output-only fields are ignored.

    Raises InvalidInput naming `path` if an attribute has no value or a moment is out of range.
    """
    return Document(
        id=message.id,
        title=message.title,
        text=message.text,
        attributes={
            name: _value_from_proto(value, f"{path}.attributes[{name!r}]")
            for name, value in message.attributes.items()
        },
    )


def document_to_proto(document: Document) -> document_pb2.Document:
    """The document as callers see it."""
    message = document_pb2.Document(
        id=document.id, title=document.title, text=document.text, version=document.version
    )
    for name, value in document.attributes.items():
        _value_to_proto(value, message.attributes[name])
    if document.update_time is not None:
        message.update_time.CopyFrom(timestamp(document.update_time))
    return message


def document_to_bytes(document: Document) -> bytes:
    """The document as callers see it, serialised; the same bytes for the same document."""
    return document_to_proto(document).SerializeToString(deterministic=True)


def document_from_bytes(data: bytes) -> Document:
    """The inverse of `document_to_bytes`."""
    message = document_pb2.Document.FromString(data)
    written = message.HasField("update_time")
    return replace(
        document_from_proto(message, "document"),
        version=message.version,
        update_time=message.update_time.ToDatetime(tzinfo=UTC) if written else None,
    )


def value_from_proto(message: document_pb2.AttributeValue) -> AttributeValue | None:
    """The value of an attribute of a stored document, None if the message has none."""
    return _value_from_proto(message, "") if message.WhichOneof("kind") else None


def value_to_proto(value: AttributeValue | None) -> document_pb2.AttributeValue:
    """The value as callers see it; None as a message without a kind."""
    message = document_pb2.AttributeValue()
    if value is not None:
        _value_to_proto(value, message)
    return message


def passage_text(document: bytes, start_byte: int, end_byte: int) -> str:
    """What a passage of a serialised document says, its title first."""
    message = document_pb2.Document.FromString(document)
    text = message.text.encode()[start_byte:end_byte].decode(errors="ignore")
    return f"{message.title} {text}".strip()


def position_from_proto(message: document_pb2.Position, path: str) -> Position:
    """The position that a caller sent; raises InvalidInput if a sequence number is negative."""
    for index, shard in enumerate(message.shards):
        if shard.sequence < 0:
            raise InvalidInput(
                "OUT_OF_RANGE", "is negative", field=f"{path}.shards[{index}].sequence"
            )
    return Position({shard.shard: shard.sequence for shard in message.shards})


def position_to_proto(position: Position) -> document_pb2.Position:
    """A position as callers see it, by ascending shard."""
    return document_pb2.Position(
        shards=[
            document_pb2.ShardPosition(shard=shard, sequence=sequence)
            for shard, sequence in sorted(position.sequences.items())
        ]
    )


def batch_error_to_proto(error: TriremeError) -> document_pb2.BatchError:
    """Why one batch of a stream failed."""
    code, _ = error.code.value
    return document_pb2.BatchError(
        code=code, reason=error.reason, message=str(error), field=error.field
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment as a protobuf timestamp."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def attributes_to_json(attributes: Mapping[str, AttributeValue]) -> dict[str, object]:
    """Attributes as JSON values; moments as `{"timestamp": "2026-01-31T12:00:00+00:00"}`."""
    return {name: _value_to_json(value) for name, value in attributes.items()}


def attributes_from_json(values: Mapping[str, object]) -> dict[str, AttributeValue]:
    """The inverse of attributes_to_json."""
    return {name: _value_from_json(value) for name, value in values.items()}


def _value_from_proto(message: document_pb2.AttributeValue, path: str) -> AttributeValue:
    match message.WhichOneof("kind"):
        case "string_value":
            return message.string_value
        case "number_value":
            return message.number_value
        case "bool_value":
            return message.bool_value
        case "strings_value":
            return tuple(message.strings_value.values)
        case "timestamp_value":
            return _moment(message.timestamp_value, path)
        case _:
            raise InvalidInput(
                "FIELD_REQUIRED", "has no value", field=path, remedy="set one, or leave it out"
            )


def _moment(message: Timestamp, path: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "OUT_OF_RANGE", "is not between the years 1 and 9999", field=path
        ) from error


def _value_to_proto(value: AttributeValue, message: document_pb2.AttributeValue) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, datetime):
        message.timestamp_value.CopyFrom(timestamp(value))
    elif isinstance(value, tuple):
        message.strings_value.SetInParent()
        message.strings_value.values.extend(value)
    else:
        message.number_value = value


def _value_to_json(value: AttributeValue) -> object:
    if isinstance(value, datetime):
        return {"timestamp": value.isoformat()}
    return list(value) if isinstance(value, tuple) else value


def _value_from_json(value: object) -> AttributeValue:
    if isinstance(value, Mapping):
        return datetime.fromisoformat(str(value["timestamp"]))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(str(item) for item in value)
    if isinstance(value, str | bool):
        return value
    return float(value)  # type: ignore[arg-type]
