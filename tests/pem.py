"""Certificates for tests, made by openssl: a CA, and what it signs.

ca = Authority.make(folder)
site = ca.sign("site.example", "www.site.example")     # site.certificate, site.key: paths
"""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def yaml(self) -> str:
        return f"{{certificate: {self.certificate}, key: {self.key}}}"

    def in_one_file(self) -> Path:
        both = self.key.with_suffix(".both.pem")
        both.write_text(self.certificate.read_text() + self.key.read_text())
        return both


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that nobody trusts but tests."""

    folder: Path
    own: Pair

    @classmethod
    def make(cls, folder: Path, name: str = "ca") -> Authority:
        pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        subject = ("-subj", f"/CN={name}", "-days", 2, "-keyout", pair.key, "-out", pair.certificate)
        _openssl("req", "-x509", *_CURVE, *subject)
        return cls(folder, pair)

    def sign(self, *names: str, days: int = 2, file: str | None = None) -> Pair:
        """Sign a certificate for these host names; `days` below zero: it has expired."""
        file = file or names[0].replace("*", "any")
        pair = Pair(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        request, extensions = self.folder / f"{file}.csr", self.folder / f"{file}.ext"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
        _openssl("req", *_CURVE, "-subj", f"/CN={names[0]}", "-keyout", pair.key, "-out", request)
        signer = ("-CA", self.own.certificate, "-CAkey", self.own.key, "-CAcreateserial")
        dates = ("-days", days, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *signer, *dates, "-out", pair.certificate)
        return pair

    def trusting(self, shown: Pair | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this CA; `shown` is the client's own certificate."""
        context = ssl.create_default_context(cafile=str(self.own.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context


def server(pair: Pair, visitors: Authority | None = None) -> ssl.SSLContext:
    """Return a server's context; with `visitors` it asks for a certificate of theirs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    if visitors is not None:
        context.load_verify_locations(visitors.own.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
