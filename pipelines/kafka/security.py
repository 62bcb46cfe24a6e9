"""How to reach a secured broker, with every secret by reference.

A reference is ``env:NAME`` or ``file:PATH``. It is resolved when a client is made
and kept nowhere, so no secret is in options, pipelines, pickles or logs.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ae_model.exceptions import ConfigError
from pipelines.kafka.tls import make_context

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class KafkaSecurity:
    """One way to authenticate and encrypt.

    Args:
        protocol: one of PROTOCOLS.
        mechanism: one of MECHANISMS with a SASL protocol, else None.
        username: text or a reference.
        password: a reference.
        cafile: path of the authority's certificate; None takes the system's.
        certfile: path of the client's certificate, for mutual TLS.
        keyfile: path of its key, readable by its owner alone.
        keyfile_password: a reference.

    Raises:
        ConfigError: a secret is spelled out, or the parts do not fit together.
    """

    protocol: str = "SASL_SSL"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Refuse spelled-out secrets and settings that would be ignored."""
        _require(self.protocol in PROTOCOLS, "protocol", f"one of {', '.join(PROTOCOLS)}", self.protocol)
        sasl = self.protocol.startswith("SASL")
        _require(not sasl or self.mechanism in MECHANISMS, "mechanism", " or ".join(MECHANISMS), self.mechanism)
        for name in ("username", "password"):
            given = getattr(self, name) is not None
            _require(
                given == sasl, name, f"{'a value' if sasl else 'none'} with {self.protocol}", "set" if given else None
            )
        for name in ("password", "keyfile_password"):
            value = getattr(self, name)
            _require(value is None or _is_reference(value), name, "env:NAME or file:PATH", "a value of its own")
        _require(
            (self.certfile is None) == (self.keyfile is None), "keyfile", "both certfile and keyfile, or neither", "one"
        )

    @property
    def has_password(self) -> bool:
        """Whether a password travels when a client connects."""
        return self.mechanism is not None


def client_options(security: KafkaSecurity | None, bootstrap: str) -> dict[str, Any]:
    """kafka-python's options, with the secrets resolved.

    Raises:
        ConfigError: a reference leads nowhere, a key file is open to others, a certificate
            cannot be used, or a password would travel unencrypted to another machine.
    """
    if security is None:
        return {}
    if security.protocol == "SASL_PLAINTEXT":
        _require_local(bootstrap)
    if security.keyfile is not None:
        _require_private(security.keyfile)
    options = {
        "security_protocol": security.protocol,
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": resolve("username", security.username),
        "sasl_plain_password": resolve("password", security.password),
        "ssl_context": _tls_context(security),
    }
    return {name: value for name, value in options.items() if value is not None}


def _tls_context(security: KafkaSecurity) -> ssl.SSLContext | None:
    if security.protocol not in ("SSL", "SASL_SSL"):
        return None
    password = resolve("keyfile_password", security.keyfile_password)
    return make_context(security.cafile, security.certfile, security.keyfile, password)


def resolve(name: str, reference: str | None) -> str | None:
    """What ``env:NAME`` or ``file:PATH`` points at; any other text is itself.

    Raises:
        ConfigError: the variable is not set or the file cannot be read.
    """
    if reference is None or not _is_reference(reference):
        return reference
    kind, _, where = reference.partition(":")
    try:
        return os.environ[where] if kind == "env" else Path(where).read_text().rstrip("\r\n")
    except (KeyError, OSError) as exc:
        what = "a variable that is set" if kind == "env" else "a file that can be read"
        raise ConfigError(f"kafka.security.{name}: expected {what}. Received: {name}={reference}.") from exc


def _is_reference(value: str) -> bool:
    return value.startswith(("env:", "file:"))


def _require_local(bootstrap: str) -> None:
    hosts = [address.strip().rpartition(":")[0] for address in bootstrap.split(",")]
    _require(
        all(host in LOCAL_HOSTS for host in hosts),
        "protocol",
        "SASL_SSL for a broker on another machine, or the password travels in clear",
        "SASL_PLAINTEXT",
    )


def _require_private(path: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as exc:
        raise ConfigError(f"kafka.security.keyfile: expected a file. Received: keyfile={path}.") from exc
    _require(not mode & stat.S_IRWXO, "keyfile", f"a file closed to others (chmod 600 {path})", oct(mode & 0o777))


def _require(rule: bool, name: str, expected: str, received: object) -> None:
    if not rule:
        raise ConfigError(f"kafka.security.{name}: expected {expected}. Received: {name}={received}.")
