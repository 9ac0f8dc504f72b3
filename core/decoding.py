"""Requests that protobuf cannot read are refused as INVALID_ARGUMENT, with the field at fault.

Protobuf refuses a text that is not UTF-8 while it parses, which gRPC reports as a fault of the
server before any handler runs. Here the refusal is carried to the handler as a value and raised
there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import DecodeError, Message

from core.errors import InvalidInput
from core.interceptors import rewrapped

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Context = Any

_FieldType = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for a request that could not be read."""

    error: InvalidInput


class Decoding(grpc.aio.ServerInterceptor):
    """Raises InvalidInput in place of a handler whose request is unreadable; inside `Boundary`.

    A streaming handler gets an iterator that raises InvalidInput for an unreadable message and can
    be asked for the next one afterwards.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        parse = getattr(handler, "request_deserializer", None)
        kind = getattr(parse, "__self__", None)
        if parse is None or not (isinstance(kind, type) and issubclass(kind, Message)):
            return handler
        return _tolerant(handler, kind)


class Requests(AsyncIterator[Any]):
    """A stream of requests that goes on after an unreadable one."""

    def __init__(self, incoming: AsyncIterator[Any]) -> None:
        self._incoming = incoming

    async def __anext__(self) -> Any:
        return readable(await anext(self._incoming))


def readable(request: Any) -> Any:
    """The request itself; raises InvalidInput if it could not be read."""
    if isinstance(request, Undecodable):
        raise request.error
    return request


def decode(kind: type[Message], data: bytes) -> Message:
    """Parses `data`; raises InvalidInput, `NOT_UTF8` with the field's path or else `MALFORMED`."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise _refusal(kind, data) from error


def _tolerant(handler: Any, kind: type[Message]) -> Any:
    def deserialize(data: bytes) -> Any:
        try:
            return decode(kind, data)
        except InvalidInput as error:
            return Undecodable(error)

    return rewrapped(
        handler, lambda behaviour: _reading(behaviour, handler.request_streaming), deserialize
    )


def _reading(behaviour: Any, request_streaming: bool) -> Any:
    if inspect.isasyncgenfunction(behaviour):
        return _reading_stream(behaviour, request_streaming)

    async def call(request: Any, context: Context) -> Any:
        return await behaviour(_checked(request, request_streaming), context)

    return call


def _reading_stream(behaviour: Any, request_streaming: bool) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        async for response in behaviour(_checked(request, request_streaming), context):
            yield response

    return call


def _checked(request: Any, request_streaming: bool) -> Any:
    return Requests(request) if request_streaming else readable(request)


def _refusal(kind: type[Message], data: bytes) -> InvalidInput:
    declared: Any = kind.DESCRIPTOR
    try:
        raw = _raw_twin(declared).FromString(data)
    except DecodeError:
        return InvalidInput(
            "MALFORMED",
            "the request is not a message of its type",
            field="",
            remedy="send protobuf",
        )
    path = next(_not_utf8(raw, declared, ""), "")
    return InvalidInput("NOT_UTF8", "is not UTF-8", field=path, remedy="encode the text as UTF-8")


@functools.cache
def _raw_twin(descriptor: Descriptor) -> type[Message]:
    """The same message with `bytes` wherever it has `string`, so that any text can be read."""
    pool = descriptor_pool.DescriptorPool()
    for file in _with_dependencies(descriptor.file, set()):
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            _loosen(message)
        pool.Add(proto)
    twin: type[Message] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(descriptor.full_name)
    )
    return twin


def _with_dependencies(file: FileDescriptor, seen: set[str]) -> Iterator[FileDescriptor]:
    if file.name in seen:
        return
    seen.add(file.name)
    for dependency in file.dependencies:
        yield from _with_dependencies(dependency, seen)
    yield file


def _loosen(message: descriptor_pb2.DescriptorProto) -> None:
    # A map may not have keys of bytes, but on the wire it is a list of its entries.
    message.options.ClearField("map_entry")
    for field in message.field:
        if field.type == _FieldType.TYPE_STRING:
            field.type = _FieldType.TYPE_BYTES
    for nested in message.nested_type:
        _loosen(nested)


def _not_utf8(raw: Message, original: Descriptor, path: str) -> Iterator[str]:
    """Paths of the texts that are not UTF-8, such as `documents[3].text`."""
    for field, value in raw.ListFields():
        declared = original.fields_by_number[field.number]
        repeated = declared.is_repeated
        for index, item in enumerate(value if repeated else [value]):
            where = f"{path}{field.name}[{index}]" if repeated else f"{path}{field.name}"
            if isinstance(item, Message) and declared.message_type is not None:
                yield from _not_utf8(item, declared.message_type, f"{where}.")
            elif declared.type == declared.TYPE_STRING and not _is_utf8(item):
                yield where


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
