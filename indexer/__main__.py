"""`python -m indexer --config FILE`."""

import sys

import core.one_thread  # noqa: F401  # before any library that it is about
from core.role import run
from indexer.config import IndexerConfig
from indexer.server import Indexer

if __name__ == "__main__":
    sys.exit(run("indexer", IndexerConfig, Indexer.create))
