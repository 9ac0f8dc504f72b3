"""`python -m gateway --config FILE`."""

import sys

import core.one_thread  # noqa: F401  # before any library that it is about
from core.role import run
from gateway.config import GatewayConfig
from gateway.workers import create_gateway

if __name__ == "__main__":
    sys.exit(run("gateway", GatewayConfig, create_gateway))
