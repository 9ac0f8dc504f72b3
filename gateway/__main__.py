"""`python -m gateway --config FILE`."""

import sys

from core.role import run
from gateway.config import GatewayConfig
from gateway.server import Gateway

if __name__ == "__main__":
    sys.exit(run("gateway", GatewayConfig, Gateway.create))
