"""`python -m shard --config FILE`."""

import sys

from core.role import run
from shard.config import ShardConfig
from shard.server import Shard

if __name__ == "__main__":
    sys.exit(run("shard", ShardConfig, Shard.create))
