"""`python -m indexer --config FILE`."""

import sys

from core.role import run
from indexer.config import IndexerConfig
from indexer.server import Indexer

if __name__ == "__main__":
    sys.exit(run("indexer", IndexerConfig, Indexer.create))
