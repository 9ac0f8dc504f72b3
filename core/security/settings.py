"""What a gateway is told about those who may call it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """The settings of a gateway's configuration that bear these names.

    Without a file of keys and without a JWKS there is no security: everybody may do everything.
    """

    api_keys_file: Path | None = None
    jwt_jwks: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwt_leeway_seconds: float = 30.0
    jwt_refresh_seconds: float = 300.0
    jwt_scope_claim: str = "scope"
    jwt_requests_per_minute: float = 0.0
    jwt_model_tokens_per_minute: float = 0.0

    @classmethod
    def of(cls, config: object) -> SecuritySettings:
        """Those of a gateway's configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})
