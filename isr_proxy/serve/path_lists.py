"""Lists of paths, read from text: files, JSON, sitemaps.

Knows the formats and their limits. Must not know where a text came from, or what the paths are for.
Everything here may take a while on a long list: call it in a thread.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

import msgspec

MAX_PATHS: Final = 500_000
MAX_BYTES: Final = 50 * 1024 * 1024  # of one text, uncompressed: what sitemaps.org allows
_MAX_DEPTH: Final = 32
_GZIP_MAGIC: Final = b"\x1f\x8b"


class BadList(ValueError):
    """A text is not the list it should be; says why."""


def parse_lines(text: str) -> list[str]:
    """Read one path a line; `#` begins a comment, blank lines are nothing."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line][:MAX_PATHS]


def parse_json(raw: bytes) -> list[str]:
    """Read a list of strings, a list of objects with `path`, `loc` or `url`, or {"paths": such a list}."""
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadList(f"not JSON: {error}") from error
    if isinstance(content, dict):
        content = content.get("paths")
    if not isinstance(content, list):
        raise BadList('a list is wanted, or {"paths": [...]}')
    return [_path_in(item) for item in content[:MAX_PATHS]]


def _path_in(item: Any) -> str:
    if isinstance(item, dict):
        item = next((item[name] for name in ("path", "loc", "url") if name in item), None)
    if not isinstance(item, str):
        raise BadList("an item is neither a string nor an object with `path`, `loc` or `url`")
    return item


def gunzip(raw: bytes) -> bytes:
    """Return a text that may be gzipped, as it was; BadList when it is too long or broken."""
    if not raw.startswith(_GZIP_MAGIC):
        return raw
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        text = unpacker.decompress(raw, MAX_BYTES + 1)
    except zlib.error as error:
        raise BadList(f"not gzip: {error}") from error
    if len(text) > MAX_BYTES:
        raise BadList(f"longer than {MAX_BYTES} bytes")
    if not unpacker.eof:
        raise BadList("the gzip ends early")
    return text


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What one sitemap names: pages, or further sitemaps."""

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def parse_sitemap(raw: bytes) -> Sitemap:
    """Read a urlset or a sitemapindex, gzipped or not (sitemaps.org).

    A DOCTYPE is refused, and with it every entity that could expand.
    """
    reader = _SitemapReader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(gunzip(raw), True)
    except expat.ExpatError as error:
        raise BadList(f"not XML: {error}") from error
    if reader.root not in ("urlset", "sitemapindex"):
        raise BadList(f"<{reader.root}> is neither <urlset> nor <sitemapindex>")
    return reader.found


class _SitemapReader:
    """Collects the <loc> of each <url> and <sitemap>; not those of images or videos within."""

    def __init__(self) -> None:
        self.found = Sitemap()
        self.root = ""
        self._open: list[str] = []
        self._loc: list[str] = []

    def doctype(self, *_: object) -> None:
        raise BadList("a sitemap with a DOCTYPE is refused")

    def start(self, name: str, _: object) -> None:
        local = name.rpartition(" ")[2].lower()
        self.root = self.root or local
        self._open.append(local)
        self._loc = []
        if len(self._open) > _MAX_DEPTH:
            raise BadList("nested too deeply")

    def text(self, text: str) -> None:
        if self._open[1:] in (["url", "loc"], ["sitemap", "loc"]):
            self._loc.append(text)

    def end(self, _: str) -> None:
        path = self._open[1:]
        location = "".join(self._loc).strip()
        self._open.pop()
        self._loc = []
        if not location or len(self.found.pages) >= MAX_PATHS:
            return
        if path == ["url", "loc"]:
            self.found.pages.append(location)
        elif path == ["sitemap", "loc"]:
            self.found.sitemaps.append(location)
