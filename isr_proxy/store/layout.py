"""Where things lie under the store's directory, and how a page file is called.

Knows names and paths only. Must not know what is in a file, nor open one.

    lock               held by the serving process; its pid is inside
    version            of this layout
    catalog.sqlite     derived: listing, sizes, order of eviction
    tmp/               files in the making; emptied at start
    bad/               broken files, moved aside
    pages/ab/abcd...   one file per entry, or the index of a key that varies
    pages/ab/abcd....ef01...   one variant of such a key
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isr_proxy.core.key import KEY_DIGEST_BYTES, VARIANT_DIGEST_BYTES, Variant

VERSION: Final = "1\n"
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))

Name = bytes  # key digest, then the variant's digest when the key varies


def name_of(digest: bytes, variant: Variant) -> Name:
    """Return the name of a variant's file."""
    return digest + variant.digest if variant.headers else digest


def key_part(name: Name) -> bytes:
    """Return the digest of the key a file belongs to."""
    return name[:KEY_DIGEST_BYTES]


def is_variant(name: Name) -> bool:
    """Tell a variant's file from a key's own place."""
    return len(name) > KEY_DIGEST_BYTES


def file_name(name: Name) -> str:
    digest, variant = name[:KEY_DIGEST_BYTES].hex(), name[KEY_DIGEST_BYTES:].hex()
    return f"{digest}.{variant}" if variant else digest


def parse_file_name(text: str) -> Name | None:
    """Return the name behind a file's name; None when it is not a page file."""
    digest, dot, variant = text.partition(".")
    if len(digest) != 2 * KEY_DIGEST_BYTES or (dot and len(variant) != 2 * VARIANT_DIGEST_BYTES):
        return None
    try:
        return bytes.fromhex(digest + variant)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one root."""

    root: str

    @property
    def lock(self) -> str:
        return f"{self.root}/lock"

    @property
    def version(self) -> str:
        return f"{self.root}/version"

    @property
    def catalog(self) -> str:
        return f"{self.root}/catalog.sqlite"

    @property
    def tmp(self) -> str:
        return f"{self.root}/tmp"

    @property
    def bad(self) -> str:
        return f"{self.root}/bad"

    @property
    def pages(self) -> str:
        return f"{self.root}/pages"

    def shard(self, name: Name) -> str:
        return f"{self.root}/pages/{name[:1].hex()}"

    def page(self, name: Name) -> str:
        return f"{self.root}/pages/{name[:1].hex()}/{file_name(name)}"
