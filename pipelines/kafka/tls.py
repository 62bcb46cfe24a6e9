"""TLS: one context made before anything connects, and what went wrong with it told in one line."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from ae_model.exceptions import ConfigError, ConnectError

# A handshake that is cut short may be a broker that restarts; these will not mend by waiting.
_LASTING = ("ALERT", "CERTIFICATE_VERIFY_FAILED")


def make_context(cafile: str | None, certfile: str | None, keyfile: str | None, password: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, with the broker's certificate and name checked.

    Args:
        cafile: path of the authority's certificate; None takes the system's.
        certfile: path of the client's certificate, for mutual TLS.
        keyfile: path of its key.
        password: of the key, resolved.

    Raises:
        ConfigError: a file is absent, is no such thing, or the key does not open with the password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if cafile is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile)
    except (OSError, ssl.SSLError) as exc:
        raise _unusable("cafile", "certificates in PEM", cafile, exc) from exc
    if certfile is not None:
        _load_own(context, certfile, keyfile, password)
    return context


def _load_own(context: ssl.SSLContext, certfile: str, keyfile: str | None, password: str | None) -> None:
    if not Path(certfile).is_file():
        raise _unusable("certfile", "a certificate in PEM", certfile, FileNotFoundError("no such file"))
    try:
        # An empty password: without one OpenSSL would ask for it at the terminal.
        context.load_cert_chain(certfile, keyfile, password or "")
    except (OSError, ssl.SSLError) as exc:
        raise _unusable("keyfile", "the key of certfile, opened by keyfile_password", keyfile, exc) from exc


def _unusable(name: str, expected: str, path: str | None, exc: Exception) -> ConfigError:
    reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc
    return ConfigError(f"kafka.security.{name}: expected {expected}. Received: {name}={path} ({reason}).")


def find_fault(exc: BaseException | None) -> ssl.SSLError | None:
    """The lasting fault of TLS that ``exc`` is, holds or was raised from; None for any other."""
    for link in _links(exc):
        if isinstance(link, ssl.SSLError) and any(mark in (link.reason or "") for mark in _LASTING):
            return link
    return None


def tls_error(bootstrap: str, fault: ssl.SSLError) -> ConnectError:
    """What to tell a person: which side refused the other, why, and where to look."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        reason = fault.verify_message.rstrip(".")
        return ConnectError(
            f"broker {bootstrap}: expected a certificate of a trusted authority, of this host and of today. "
            f"Received: {reason}. Check kafka.security.cafile and the broker's certificate."
        )
    reason = (fault.reason or "").replace("_", " ").lower()
    return ConnectError(
        f"broker {bootstrap}: expected it to accept this client's certificate. Received: {reason}. "
        "Check kafka.security.certfile and keyfile."
    )


def _links(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        yield from (part for part in exc.args if isinstance(part, BaseException))
        exc = exc.__cause__ or exc.__context__
