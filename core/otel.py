"""Records spans with OpenTelemetry and sends them to a collector, as OTEL_* variables say.

Needs the extra `otel`. Which part of all traces is recorded says OTEL_TRACES_SAMPLER; without it,
all of them, save those that a caller says it does not record.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from core import tracing
from core.errors import BadEnvironment
from core.metrics import release

# No process lives on for a collector that is away.
LAST_SPANS_SECONDS = 2.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def start(role: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Records spans from now on if a collector is named; returns what sends the rest and ends it.

    Raises BadEnvironment if OpenTelemetry is not installed, or is to speak anything but gRPC.
    """
    if not _is_wanted(environment):
        return _nothing_to_end
    for name in _PROTOCOLS:
        if environment.get(name, "grpc") != "grpc":
            raise BadEnvironment(
                f"is {environment[name]!r}", field=name, remedy="spans are sent as grpc only"
            )
    try:
        from core.spans import OtelTracer, provider_of
    except ImportError as error:
        raise BadEnvironment(
            "names a collector, but OpenTelemetry is not installed",
            field=next(name for name in _ENDPOINTS if name in environment),
            remedy="pip install 'trireme[otel]', or unset it",
        ) from error
    provider = provider_of(_attributes(role, environment))
    tracing.use(OtelTracer(provider))

    def stop() -> None:
        tracing.use(None)
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_SPANS_SECONDS)

    return stop


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


def _nothing_to_end() -> None:
    """Nothing was started."""


def _attributes(role: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What every span says of its process, unless the environment names it."""
    attributes = {"service.version": release()}
    named = "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named and not environment.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = f"trireme-{role}"
    return attributes
