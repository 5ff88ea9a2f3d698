"""What is wrong with the files that TLS needs, as problems with a place.

Knows where a config names them. Must not know how a certificate is read (certificates.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from isr_proxy.core.settings import OriginSettings, OriginTls, Settings
from isr_proxy.run.certificates import BadFile, origin_faults, server_faults
from isr_proxy.run.config_tree import Document, Path


def place_of_listen(document: Document, index: int) -> Path:
    """Return where an address stands: in a list, or alone."""
    return ("listen", index) if document.has(("listen", index)) else ("listen",)


def check_tls(settings: Settings, document: Document) -> None:
    """Add a problem for each file that cannot be used."""
    for index, address in enumerate(settings.listen):
        path = (*place_of_listen(document, index), "tls")
        if address.tls is not None and document.has(path):
            _report(document, path, server_faults(address.tls))
    _check_origin(settings.origin, document)


def _check_origin(origin: OriginSettings, document: Document) -> None:
    path: Path = ("origin", "tls")
    if origin.tls == OriginTls() or document.is_broken(("origin", "url")):
        return
    if not any(url.startswith("https://") for url in origin.urls):
        message = "means nothing: no `origin.url` begins with https://; change it, or leave this out"
        document.report(path, document.key_mark(path), message)
    elif origin.tls.key is not None and origin.tls.certificate is None:
        at = (*path, "key")
        document.report(at, document.value_mark(at), "has no `certificate` that it belongs to")
    else:
        _report(document, path, origin_faults(origin.tls))


def _report(document: Document, path: Path, faults: Iterable[BadFile]) -> None:
    for fault in faults:
        at = (*path, *fault.key)
        if not document.is_broken(at):
            document.report(at, document.value_mark(at), f"the file {fault}")
