"""The document store's tables. Portable SQL: SQLite here, PostgreSQL with the same statements."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    inspect,
)
from sqlalchemy.schema import CreateColumn

FORMAT = 4
"""Version of this layout; a store with a higher one is refused, one with a lower one is brought up.

    1   the first
    2   collections may have a sparse encoder
    3   collections may say how searches rank
    4   collections may say how attributes, words and vectors are indexed;
        aliases, and indexes beside the first
"""

metadata = MetaData()

# SQLite compares text byte by byte; PostgreSQL does in this collation only.
ByteOrdered = Text().with_variant(Text(collation="C"), "postgresql")
Uid = String(32)
Sha256 = String(64)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

collection = Table(
    "collection",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("name", ByteOrdered, nullable=False, unique=True),
    Column("shard_count", Integer, nullable=False),
    Column("encoder_model", Text, nullable=False),
    Column("encoder_version", Text, nullable=False),
    Column("encoder_fingerprint", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("similarity", Text, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("create_micros", BigInteger, nullable=False),
    # Since format 2; empty for collections without a learned-sparse leg.
    Column("sparse_model", Text, nullable=False, server_default=""),
    Column("sparse_version", Text, nullable=False, server_default=""),
    Column("sparse_fingerprint", Text, nullable=False, server_default=""),
    Column("sparse_dimension", Integer, nullable=False, server_default="0"),
    # Since format 3; a `core.ranking_wish.RankingWish` as JSON, empty if it says nothing.
    Column("search_defaults", Text, nullable=False, server_default=""),
    # Since format 4; JSON each, empty if nothing is said.
    Column("schema_", Text, nullable=False, server_default=""),
    Column("lexical", Text, nullable=False, server_default=""),
    Column("vector_index", Text, nullable=False, server_default=""),
    # The index that answers; empty and 0 for the first one, which has the collection's own uid.
    Column("index_uid", Uid, nullable=False, server_default=""),
    Column("index_number", Integer, nullable=False, server_default="0"),
)

# Second names of collections. They share the name space of `collection`.
alias = Table(
    "alias",
    metadata,
    Column("name", ByteOrdered, primary_key=True),
    Column("uid", Uid, nullable=False, index=True),
    Column("create_micros", BigInteger, nullable=False),
    Column("update_micros", BigInteger, nullable=False),
)

# Collections whose rows and files are still to be cleared away.
removed = Table("removed", metadata, Column("uid", Uid, primary_key=True))

# Points at the newest change of each id. Deleted ids stay, so that versions never repeat.
document = Table(
    "document",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("id", ByteOrdered, primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
)

# The feed itself, contents included: an index is the fold of it, whatever is read when.
change = Table(
    "change",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("op", String(8), nullable=False),
    Column("previous", BigInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("update_micros", BigInteger, nullable=False),
    Column("chain", Sha256, nullable=False),
)

# One row decides everything about a shard: the feed's end, and who may publish what after which.
shard_head = Table(
    "shard_head",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("head", BigInteger, nullable=False),
    Column("chain", Sha256, nullable=False),
    Column("documents", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("covers_sequence", BigInteger, nullable=False),
    Column("covers_chain", Sha256, nullable=False),
    # Tries of the changes up to `trying`, counted before each; see `heads.begin_attempt`.
    Column("trying", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    # Since format 4: the collection whose feed this index folds; empty if that is its own uid, in
    # whose row the feed's end stands. In all other rows the columns of the feed mean nothing.
    Column("feed", Uid, nullable=False, server_default=""),
)

# Moves of a collection from one index to another; see `migration.store`. At most one is active.
migration = Table(
    "migration",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("queries", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("create_micros", BigInteger, nullable=False),
    Column("switch_micros", BigInteger, nullable=False),
    Column("end_micros", BigInteger, nullable=False),
    Column("released", Boolean, nullable=False, server_default=false()),
)

request = Table(
    "request",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("answer", Text, nullable=False),
    Column("create_micros", BigInteger, nullable=False),
)
Index("request_by_age", request.c.create_micros)

# Documents that failed alone; set aside once `quarantined`.
suspect = Table(
    "suspect",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("quarantined", Boolean, nullable=False, server_default=false()),
    Column("reason", Text, nullable=False),
    Column("first_micros", BigInteger, nullable=False),
    Column("last_micros", BigInteger, nullable=False),
)

# What operators asked to be done to an index: the last of each kind and shard. Since format 4.
task = Table(
    "task",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("create_micros", BigInteger, nullable=False),
    # 0 until it is done.
    Column("end_micros", BigInteger, nullable=False),
)


def add_missing_columns(connection: Connection) -> None:
    """Brings the tables of an earlier format up to this one; new columns have server defaults."""
    for table in metadata.sorted_tables:
        present = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                clause = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {clause}")
