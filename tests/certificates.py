"""A certificate authority of this machine, and what it signs."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates; ``cafile`` is what a client must know to trust them."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = self._sign(self._name, self._key, DAY, x509.BasicConstraints(ca=True, path_length=None))
        self.cafile = folder / f"{name}.pem"
        self.cafile.write_bytes(self._certificate.public_bytes(PEM))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta, *extras: object) -> object:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - 10 * DAY).not_valid_after(now + lasts)
        for extra in extras:
            builder = builder.add_extension(extra, critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str, address: str = "127.0.0.1", lasts: timedelta = DAY, password: bytes = b"") -> Path:
        """A certificate and its key in ``name.pem``; the certificate alone in ``name.crt``, the key in ``name.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = self._sign(_name(name), key, lasts, names).public_bytes(PEM)
        closed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, closed)
        for suffix, content in (("pem", secret + certificate), ("crt", certificate), ("key", secret)):
            (self._folder / f"{name}.{suffix}").write_bytes(content)
        (self._folder / f"{name}.key").chmod(0o600)
        return self._folder / f"{name}.pem"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
