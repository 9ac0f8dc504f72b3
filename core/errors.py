"""Every failure this software tells its callers about.

    TriremeError                     code                  reason
    |- InvalidInput                  INVALID_ARGUMENT      given by the raiser
    |- Unauthenticated               UNAUTHENTICATED
    |  |- CredentialsMissing                               CREDENTIALS_MISSING
    |  |- CredentialsInvalid                               CREDENTIALS_INVALID
    |  `- CredentialsExpired                               CREDENTIALS_EXPIRED
    |- PermissionDenied              PERMISSION_DENIED     PERMISSION_DENIED
    |- NotFound                      NOT_FOUND             given by the raiser
    |- CollectionExists              ALREADY_EXISTS        COLLECTION_EXISTS
    |- AliasExists                   ALREADY_EXISTS        ALIAS_EXISTS
    |- SnapshotExists                ALREADY_EXISTS        SNAPSHOT_EXISTS
    |- Exhausted                     RESOURCE_EXHAUSTED
    |  |- Overloaded                                       OVERLOADED
    |  |  |- IndexBehind                                   INDEX_BEHIND
    |  |  `- QuotaExceeded                                 QUOTA_EXCEEDED
    |  `- StorageFull                                      STORAGE_FULL
    |- OutOfTime                     DEADLINE_EXCEEDED     DEADLINE_EXCEEDED
    |- Unreachable                   UNAVAILABLE
    |  |- TritonUnavailable                                TRITON_UNAVAILABLE
    |  |- ShardUnavailable                                 SHARD_UNAVAILABLE
    |  |- InsufficientCoverage                             INSUFFICIENT_COVERAGE
    |  |- IndexerUnavailable                               INDEXER_UNAVAILABLE
    |  |- StoreUnavailable                                 STORE_UNAVAILABLE
    |  |- IndexStoreUnavailable                            INDEX_STORE_UNAVAILABLE
    |  `- IdentityUnavailable                              IDENTITY_UNAVAILABLE
    |- Precondition                  FAILED_PRECONDITION
    |  |- ModelMismatch                                    MODEL_MISMATCH
    |  |- ModelInUse                                       MODEL_IN_USE
    |  |- ModelNotLoaded                                   MODEL_NOT_LOADED
    |  |- NoSuchLeg                                        NO_SUCH_LEG
    |  |- CollectionHasAliases                             COLLECTION_HAS_ALIASES
    |  |- MigrationActive                                  MIGRATION_ACTIVE
    |  |- MigrationNotReady                                MIGRATION_NOT_READY
    |  |- PageTokenExpired                                 PAGE_TOKEN_EXPIRED
    |  |- NewerFormat                                      NEWER_FORMAT
    |  `- BadEnvironment                                   ENVIRONMENT
    |- BadModelOutput                INTERNAL              BAD_MODEL_OUTPUT
    |- CorruptFile                   DATA_LOSS             CORRUPT_FILE
    `- Fenced                        ABORTED               FENCED

Reasons are the names in `error_reason.proto` without their prefix. Foreign errors become one of
these at the boundary where they appear, with the cause kept.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class TriremeError(Exception):
    """A failure with a gRPC code, a machine-readable reason and a remedy.

    `message` says what is wrong with which value, `remedy` what the caller can do next, `field`
    names the request field or setting at fault and may be empty.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: str = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        subject = f"{self.field}: " if self.field else ""
        return f"{subject}{self.message}" + (f"; {self.remedy}" if self.remedy else "")


class InvalidInput(TriremeError):
    """A request that can never succeed as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, reason: str, message: str, *, field: str, remedy: str = "") -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.reason = reason


class Unauthenticated(TriremeError):
    """Nobody knows who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "CREDENTIALS_INVALID"


class CredentialsMissing(Unauthenticated):
    """A call without an API key or token."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(Unauthenticated):
    """An API key or token that is not known, not signed as it must be, or not for us."""

    reason = "CREDENTIALS_INVALID"


class CredentialsExpired(Unauthenticated):
    """An API key or token whose time has passed."""

    reason = "CREDENTIALS_EXPIRED"


class PermissionDenied(TriremeError):
    """Credentials that do not hold the scope that a call needs."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class NotFound(TriremeError):
    """A name that stands for nothing."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, reason: str, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.reason = reason


class CollectionExists(TriremeError):
    """A collection of this name is there already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "COLLECTION_EXISTS"


class AliasExists(TriremeError):
    """An alias of this name is there already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "ALIAS_EXISTS"


class SnapshotExists(TriremeError):
    """A snapshot of this name is there already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "SNAPSHOT_EXISTS"


class Exhausted(TriremeError):
    """Something finite is used up."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Overloaded(Exhausted):
    """No permit left; `retry_after_seconds` says when to come back."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, remedy=f"try again in {retry_after_seconds:g} s")
        self.retry_after_seconds = retry_after_seconds


class IndexBehind(Overloaded):
    """The index is too far behind what was written; it takes more when it has caught up."""

    reason = "INDEX_BEHIND"


class QuotaExceeded(Overloaded):
    """The caller has used what it may use; it may go on after `retry_after_seconds`."""

    reason = "QUOTA_EXCEEDED"


class StorageFull(Exhausted):
    """The disk is full; nothing was written."""

    reason = "STORAGE_FULL"


class OutOfTime(TriremeError):
    """The deadline passed before there was anything to answer."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unreachable(TriremeError):
    """A service that we depend on does not answer; trying again later may help."""

    code = grpc.StatusCode.UNAVAILABLE


class TritonUnavailable(Unreachable):
    """Triton does not answer, or not in time."""

    reason = "TRITON_UNAVAILABLE"


class ShardUnavailable(Unreachable):
    """A shard does not answer, or not in time."""

    reason = "SHARD_UNAVAILABLE"


class InsufficientCoverage(Unreachable):
    """Less of a collection answered than the caller asks for."""

    reason = "INSUFFICIENT_COVERAGE"


class IndexerUnavailable(Unreachable):
    """The indexer does not answer, so nothing can be written now."""

    reason = "INDEXER_UNAVAILABLE"


class StoreUnavailable(Unreachable):
    """The document store's server does not answer, so nothing can be written now."""

    reason = "STORE_UNAVAILABLE"


class IndexStoreUnavailable(Unreachable):
    """The service that keeps the index files does not answer, or not as it should."""

    reason = "INDEX_STORE_UNAVAILABLE"


class IdentityUnavailable(Unreachable):
    """The keys that tokens are checked by cannot be had."""

    reason = "IDENTITY_UNAVAILABLE"


class Precondition(TriremeError):
    """The state of the system forbids this; somebody must change it first."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ModelMismatch(Precondition):
    """The model that is served is not the one that was agreed on."""

    reason = "MODEL_MISMATCH"


class NoSuchLeg(Precondition):
    """A search asks for a leg that the collection was not created with."""

    reason = "NO_SUCH_LEG"


class CollectionHasAliases(Precondition):
    """Aliases stand for the collection that was to be deleted."""

    reason = "COLLECTION_HAS_ALIASES"


class PageTokenExpired(Precondition):
    """A page token is too old, or what it stands for is no longer there."""

    reason = "PAGE_TOKEN_EXPIRED"


class MigrationActive(Precondition):
    """A collection has a migration that has not ended."""

    reason = "MIGRATION_ACTIVE"


class MigrationNotReady(Precondition):
    """A migration is not in the state for what was asked of it."""

    reason = "MIGRATION_NOT_READY"


class ModelInUse(Precondition):
    """A collection needs the version of a model that was to be unloaded."""

    reason = "MODEL_IN_USE"


class ModelNotLoaded(Precondition):
    """Triton could not load a model; what it served before, it still serves."""

    reason = "MODEL_NOT_LOADED"


class NewerFormat(Precondition):
    """State on disk was written by a newer version of this software."""

    reason = "NEWER_FORMAT"


class BadEnvironment(Precondition):
    """Something this machine needs is missing, in use or misconfigured."""

    reason = "ENVIRONMENT"


class BadModelOutput(TriremeError):
    """A model returned non-finite numbers or a wrong shape."""

    reason = "BAD_MODEL_OUTPUT"


class CorruptFile(TriremeError):
    """A file is missing or does not have the checksum that its manifest gives."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "CORRUPT_FILE"


class Fenced(TriremeError):
    """Another indexer has taken over this shard."""

    code = grpc.StatusCode.ABORTED
    reason = "FENCED"
