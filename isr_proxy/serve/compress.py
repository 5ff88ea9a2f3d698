"""Encoded copies of a body, made once, at regeneration.

Knows which bodies are worth it and in which order visitors are offered the copies. Must not know entries.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

from isr_proxy.core.directives import parse_cache_control
from isr_proxy.core.http import OWS, Fields
from isr_proxy.core.settings import Route
from isr_proxy.store.base import Writer

MIN_BYTES: Final = 256  # below, the header costs more than is won
MAX_BYTES: Final = 4 * 1024 * 1024  # above, held in memory too long for one regeneration
_WORTH_IT: Final = 0.9  # a copy must be at least a tenth smaller
_BROTLI_QUALITY: Final = 5  # 9 wins 3 % for six times the work on HTML
_ZSTD_LEVEL: Final = 9
_GZIP_LEVEL: Final = 6

_TEXT_LIKE: Final = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/ld+json",
        "application/manifest+json",
        "application/rss+xml",
        "application/atom+xml",
        "application/xml",
        "application/xhtml+xml",
        "application/wasm",
        "application/x-javascript",
        "application/geo+json",
        "application/vnd.api+json",
        "application/vnd.ms-fontobject",
        "font/ttf",
        "font/otf",
        "image/svg+xml",
        "image/x-icon",
        "image/bmp",
    }
)


def is_compressible(fields: Fields) -> bool:
    """Tell whether a response's type is worth compressing and nothing forbids it (RFC 9111 §5.2.2.6)."""
    if b"content-encoding" in fields or b"content-range" in fields:
        return False
    if "no-transform" in parse_cache_control(fields.all(b"cache-control")):
        return False
    kind = (fields.first(b"content-type") or "").partition(";")[0].strip(OWS).lower()
    return kind.startswith("text/") or kind in _TEXT_LIKE or kind.endswith(("+json", "+xml"))


async def copies_of(fields: Fields, route: Route, writer: Writer) -> list[tuple[str, bytes]]:
    """Make the encoded copies of a finished body, in a thread."""
    if not route.compress or not is_compressible(fields) or writer.size_bytes > MAX_BYTES:
        return []
    body = writer.resident()
    if body is None:
        body = b"".join([chunk async for chunk in writer.reader()])
    return await asyncio.to_thread(make_copies, body)


def make_copies(body: bytes) -> list[tuple[str, bytes]]:
    """Compress a body every way that pays, our preference first. CPU-bound: call it in a thread."""
    if not MIN_BYTES <= len(body) <= MAX_BYTES:
        return []
    copies = [(coding, encode(body)) for coding, encode in _ENCODERS]
    return [(coding, copy) for coding, copy in copies if len(copy) < len(body) * _WORTH_IT]


def _brotli(body: bytes) -> bytes:
    return bytes(brotli.compress(body, quality=_BROTLI_QUALITY))


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


_ENCODERS: Final[tuple[tuple[str, Callable[[bytes], bytes]], ...]] = (
    ("br", _brotli),
    ("zstd", _zstd),
    ("gzip", _gzip),
)
