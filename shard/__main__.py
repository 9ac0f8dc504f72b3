"""`python -m shard --config FILE`."""

import sys

import core.one_thread  # noqa: F401  # before any library that it is about
from core.role import run
from shard.config import ShardConfig
from shard.server import Shard

if __name__ == "__main__":
    sys.exit(run("shard", ShardConfig, Shard.create))
