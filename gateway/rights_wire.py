"""Which scope each public method needs, for which of the names in its request.

A method that is not in the table is open to nobody. Rights are those of the names that callers
write, aliases included: whoever may move an alias decides what its readers read, and must hold
`admin` for the alias and for the collection that it is moved to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from core.security.caller import ADMIN, READ, WRITE, Caller
from gateway.passthrough import SERVICES
from trireme.v1 import inference_pb2, search_pb2

PUBLIC: tuple[ServiceDescriptor, ...] = (
    search_pb2.DESCRIPTOR.services_by_name["SearchService"],
    inference_pb2.DESCRIPTOR.services_by_name["InferenceService"],
    *SERVICES,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs.

    names       paths of the request's fields that name collections or aliases; without any, the
                scope must be held for some collection
    everywhere  it must be held for all collections, as what is named is in none of them
    may_lack    a name may be empty: it then is that of the stream's message before
    listing     field of the reply whose entries are left out unless the scope is held for the name
                in their field `listed`
    items       field of the request that holds several, each of which counts as a request
    """

    scope: str
    names: tuple[str, ...] = ()
    everywhere: bool = False
    may_lack: bool = False
    listing: str = ""
    listed: str = "name"
    items: str = ""

    def check(self, caller: Caller, request: Any) -> None:
        """Raises PermissionDenied unless the caller may have what the request names."""
        named = [name for path in self.names for name in _values(request, path.split("."))]
        caller.require(self.scope, [name for name in named if name or not self.may_lack])

    def check_at_all(self, caller: Caller) -> None:
        """Raises PermissionDenied if there is no request that the caller may make."""
        if self.everywhere:
            caller.require_everywhere(self.scope)
        else:
            caller.require_somewhere(self.scope)


_OF_COLLECTION = ("collection",)
_BY_NAME = ("name",)
_OF_ALIAS = ("alias.name", "alias.collection")

_TABLE: Mapping[str, Mapping[str, Rule]] = {
    "SearchService": {
        "Search": Rule(READ, _OF_COLLECTION),
        "BatchSearch": Rule(READ, ("requests.collection",), items="requests"),
        "StreamSearch": Rule(READ, ("request.collection",)),
        "ExplainHit": Rule(READ, ("search.collection",)),
    },
    "InferenceService": {
        method: Rule(READ)
        for method in (
            *("Embed", "EmbedSparse", "Rerank"),
            *("StreamEmbed", "StreamEmbedSparse", "StreamRerank"),
        )
    },
    "DocumentService": {
        "UpsertDocuments": Rule(WRITE, _OF_COLLECTION),
        "StreamDocuments": Rule(WRITE, _OF_COLLECTION, may_lack=True),
        "DeleteDocuments": Rule(WRITE, _OF_COLLECTION),
        "GetDocument": Rule(READ, _OF_COLLECTION),
        "ListDocuments": Rule(READ, _OF_COLLECTION),
    },
    "CollectionService": {
        "CreateCollection": Rule(ADMIN, ("collection.name",)),
        "GetCollection": Rule(READ, _BY_NAME),
        "ListCollections": Rule(READ, listing="collections"),
        "UpdateCollection": Rule(ADMIN, ("collection.name",)),
        "DeleteCollection": Rule(ADMIN, _BY_NAME),
    },
    "AliasService": {
        "CreateAlias": Rule(ADMIN, _OF_ALIAS),
        "GetAlias": Rule(READ, _BY_NAME),
        "ListAliases": Rule(READ, listing="aliases"),
        "UpdateAlias": Rule(ADMIN, _OF_ALIAS),
        "DeleteAlias": Rule(ADMIN, _BY_NAME),
    },
    # Also to look at one: it may hold what people searched for.
    "MigrationService": {
        method: Rule(ADMIN, _OF_COLLECTION)
        for method in (
            *("MigrateCollection", "GetMigration", "CompareMigration", "RecordComparison"),
            *("SwitchMigration", "RollbackMigration", "FinishMigration"),
        )
    },
    "OperationsService": {
        "RebuildIndex": Rule(ADMIN, _OF_COLLECTION),
        "CompactIndex": Rule(ADMIN, _OF_COLLECTION),
        "ListIndexTasks": Rule(READ, _OF_COLLECTION),
        "ListQuarantinedDocuments": Rule(READ, _OF_COLLECTION),
        "RetryQuarantinedDocuments": Rule(WRITE, _OF_COLLECTION),
    },
    # The name of a snapshot does not say of which collection it is.
    "SnapshotService": {
        "CreateSnapshot": Rule(ADMIN, ("snapshot.collection",)),
        "ListSnapshots": Rule(ADMIN, listing="snapshots", listed="collection"),
        "RestoreSnapshot": Rule(ADMIN, everywhere=True),
        "DeleteSnapshot": Rule(ADMIN, everywhere=True),
    },
}


def path_of(method: MethodDescriptor) -> str:
    """As in a call: `/trireme.v1.SearchService/Search`."""
    return f"/{method.containing_service.full_name}/{method.name}"


RULES: Mapping[str, Rule] = {
    path_of(method): rule
    for service in PUBLIC
    for method in service.methods
    if (rule := _TABLE.get(service.name, {}).get(method.name)) is not None
}
_METHODS = {path_of(method): method for service in PUBLIC for method in service.methods}


def request_type(path: str) -> type[Message]:
    """The type of a public method's requests."""
    return _class_of(_METHODS[path].input_type)


def reply_type(path: str) -> type[Message]:
    """The type of a public method's replies."""
    return _class_of(_METHODS[path].output_type)


def _class_of(descriptor: Any) -> type[Message]:
    found: type[Message] = message_factory.GetMessageClass(descriptor)
    return found


def _values(message: Any, path: Sequence[str]) -> Iterator[str]:
    """The texts at the end of a path, of every item where it leads through a list."""
    value = getattr(message, path[0])
    if isinstance(value, str):
        yield value
        return
    for each in [value] if isinstance(value, Message) else value:
        yield from _values(each, path[1:])
