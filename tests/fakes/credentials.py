"""Certificates, API keys and tokens as a test needs them, in files as they are mounted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from core.fsops import replace_file
from core.security.caller import Grant
from core.security.key_file import write_keys
from core.security.keys import ApiKey, NewKey
from core.security.quotas import Limits
from core.security.tls import TlsSettings

ISSUER = "https://issuer.test"
AUDIENCE = "trireme"

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Certificates:
    """A CA, and one certificate for this machine, in files that can be replaced."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "ca.crt", self.ca.cert_pem.bytes())
        self.renew()

    def renew(self, *, expires: datetime | None = None) -> None:
        """Puts another certificate and key into the files."""
        made = self.ca.issue_cert("127.0.0.1", "localhost", not_after=expires)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        replace_file(self.folder / "tls.key", made.private_key_pem.bytes())
        replace_file(self.folder / "tls.crt", chain)

    @property
    def settings(self) -> dict[str, str]:
        """Of a role that shows the certificate, and calls and trusts those of the CA."""
        return {
            "tls_certificate_file": str(self.folder / "tls.crt"),
            "tls_key_file": str(self.folder / "tls.key"),
            "tls_ca_file": str(self.folder / "ca.crt"),
        }

    @property
    def mutual(self) -> dict[str, str]:
        """The same for a role that nobody without a certificate of the CA may call."""
        return {**self.settings, "tls_client_ca_file": str(self.folder / "ca.crt")}

    @property
    def tls(self) -> TlsSettings:
        """Of a client that shows the certificate."""
        return TlsSettings.of_mapping(self.settings)

    @property
    def anonymous(self) -> grpc.ChannelCredentials:
        """Of a client that trusts the CA and shows nothing."""
        return grpc.ssl_channel_credentials(self.ca.cert_pem.bytes())


@dataclass
class Keys:
    """A file of API keys."""

    path: Path
    keys: list[ApiKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_keys(self.path, self.keys)

    def add(
        self,
        name: str,
        *grants: str,
        expires: datetime | None = None,
        limits: Limits | None = None,
    ) -> str:
        """The text of a new key."""
        new = NewKey.make()
        entry = ApiKey(
            new.id,
            name,
            new.sha256,
            tuple(Grant.parse(each) for each in grants),
            datetime.now(UTC),
            expires,
            limits=limits or Limits(),
        )
        self.keys.append(entry)
        write_keys(self.path, self.keys)
        return new.text

    def remove(self, text: str) -> None:
        """Takes a key away."""
        self.keys = [key for key in self.keys if key.id not in text]
        write_keys(self.path, self.keys)


@dataclass
class Issuer:
    """Signs tokens by one of its keys, and publishes them in a file."""

    path: Path
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rotate("one")

    def rotate(self, kid: str) -> None:
        """Begins to sign by a new key; the older ones stay published."""
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())
        self.publish()

    def withdraw(self, kid: str) -> None:
        """Takes a key back."""
        del self.keys[kid]
        self.publish()

    def publish(self) -> None:
        """Writes the public keys."""
        replace_file(self.path, json.dumps(self.jwks).encode())

    @property
    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        return {
            "keys": [
                ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
                for kid, key in self.keys.items()
            ]
        }

    def token(self, scope: str | list[str], *, kid: str = "", **claims: Any) -> str:
        """A token that is good for an hour; `claims` change it, None takes one away."""
        now = datetime.now(UTC)
        usual: Mapping[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "someone",
            "iat": now,
            "exp": now + timedelta(hours=1),
            "scope": scope,
        }
        kid = kid or list(self.keys)[-1]
        content = {k: v for k, v in {**usual, **claims}.items() if v is not None}
        return jwt.encode(content, self.keys[kid], algorithm="ES256", headers={"kid": kid})


def bearer(credential: str) -> Metadata:
    """The metadata of a call with an API key or token."""
    return (("authorization", f"Bearer {credential}"),)
