"""Certificate files become TLS contexts; whatever is wrong with a file is said of its key.

Knows PEM files, names in certificates and when they expire. Must not know sockets or positions in a config.

Private to CPython and used here: `_ssl._test_decode_cert`, the only way of the standard library to read the
names and dates of a certificate that is not a CA's (tests/config/test_tls.py names it too).
"""

from __future__ import annotations

import ssl
import time
from _ssl import _test_decode_cert  # type: ignore[attr-defined]
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from isr_proxy.core.settings import CertificateFiles, ListenTls, OriginTls, TlsVersion

_VERSIONS: Final = {
    TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}
Key = tuple[str | int, ...]


class BadFile(Exception):
    """A file cannot be used. `key` is the config key under `tls` that names it."""

    def __init__(self, key: Key, message: str) -> None:
        super().__init__(message)
        self.key = key


# --- for visitors ---


def server_context(tls: ListenTls) -> ssl.SSLContext:
    """Return the context of a listener; it chooses among its certificates by name. BadFile says why not."""
    contexts = [_one(tls, files, key) for files, key in _with_keys(tls)]
    names: dict[str, ssl.SSLContext] = {}
    for (files, _), context in zip(_with_keys(tls), contexts, strict=True):
        for name in names_of(files.certificate):
            names.setdefault(name, context)
    if len(contexts) > 1:
        contexts[0].sni_callback = _Chooser(names)
    return contexts[0]


def server_faults(tls: ListenTls) -> Iterator[BadFile]:
    """Yield what is wrong with each certificate of a listener."""
    for files, key in _with_keys(tls):
        try:
            _one(tls, files, key)
        except BadFile as fault:
            yield fault


def _with_keys(tls: ListenTls) -> Iterator[tuple[CertificateFiles, Key]]:
    """Yield each certificate with where its keys stand: the first under `tls` itself."""
    for index, files in enumerate(tls.certificates):
        yield files, (() if index == 0 else ("sni", index - 1))


def _one(tls: ListenTls, files: CertificateFiles, key: Key) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION  # a visitor could ask for it without end
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files, key)
    _check_dates(files.certificate, (*key, "certificate"))
    if tls.client_ca is not None:
        _trust(context, tls.client_ca, ("client_ca",))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Chooser:
    """Chooses a context by the name that is asked for (RFC 6066 §3)."""

    def __init__(self, contexts: dict[str, ssl.SSLContext]) -> None:
        self._contexts = contexts

    def __call__(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower()
        found = self._contexts.get(name) or self._contexts.get(f"*.{name.partition('.')[2]}")
        if found is not None:
            connection.context = found


# --- for origins ---


def origin_faults(tls: OriginTls) -> Iterator[BadFile]:
    """Yield what is wrong with each file of the origin's TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca is not None:
        try:
            _trust(context, tls.ca, ("ca",))
        except BadFile as fault:
            yield fault
    if tls.certificate is not None:
        try:
            _load(context, CertificateFiles(tls.certificate, tls.key), ())
            _check_dates(tls.certificate, ("certificate",))
        except BadFile as fault:
            yield fault


# --- files ---


def _load(context: ssl.SSLContext, files: CertificateFiles, key: Key) -> None:
    """Load a certificate and its key; a wrong file is told from a wrong pair."""
    certificate_key, key_key = (*key, "certificate"), (*key, "key")
    _decode(files.certificate, certificate_key)
    if files.key is not None:
        _readable(files.key, key_key)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        at = certificate_key if files.key is None else key_key
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadFile(at, "does not belong to the certificate") from None
        what = (
            "has no private key behind its certificate" if files.key is None else "is no private key in PEM"
        )
        raise BadFile(at, what) from None
    except _Encrypted:
        at = certificate_key if files.key is None else key_key
        raise BadFile(at, "is encrypted; allowed: a key without a passphrase") from None


class _Encrypted(Exception):
    """A key wants a passphrase."""


def _no_password() -> NoReturn:
    raise _Encrypted


def _trust(context: ssl.SSLContext, file: str, key: Key) -> None:
    _readable(file, key)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise BadFile(key, "has no certificate in PEM") from None


def _readable(file: str, key: Key) -> None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as error:
        raise BadFile(key, f"cannot be read: {error.strerror}") from None


def _decode(file: str, key: Key) -> dict[str, Any]:
    _readable(file, key)
    try:
        return dict(_test_decode_cert(file))
    except ssl.SSLError:
        raise BadFile(key, "has no certificate in PEM") from None


def _check_dates(file: str, key: Key) -> None:
    decoded = _decode(file, key)
    now = time.time()  # noqa: TID251  certificates speak of the wall clock
    if now > ssl.cert_time_to_seconds(decoded["notAfter"]):
        raise BadFile(key, f"expired on {decoded['notAfter']}")
    if now < ssl.cert_time_to_seconds(decoded["notBefore"]):
        raise BadFile(key, f"is not valid before {decoded['notBefore']}")


def names_of(file: str) -> Sequence[str]:
    """Return the host names of a certificate in lower case, as it has them; without any, its common name."""
    decoded = _decode(file, ("certificate",))
    names = [value.lower() for kind, value in decoded.get("subjectAltName", ()) if kind == "DNS"]
    subject = {name: value for part in decoded["subject"] for name, value in part}
    return names or [str(subject.get("commonName", "")).lower()]
