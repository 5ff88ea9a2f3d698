"""Key and Variant: which requests are the same page.

Knows how a request and its route's rules become one canonical identity, and how that becomes a digest.
Must not know what is stored. Every field is written with its length before it is hashed, so no two
different keys share the bytes under the digest; the whole key is kept in the entry and compared on read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from isr_proxy.core.http import Fields, Request, parse_cookies
from isr_proxy.core.negotiation import normal_value
from isr_proxy.core.settings import KeyRules, QueryMode
from isr_proxy.core.value import Value

Dimension = tuple[str, str | None]

# Dimensions that no route can make: neither a header nor a cookie is called so.
NO_VARY_SEARCH_RULE: Final[Dimension] = (":no-vary-search", None)

KEY_DIGEST_BYTES: Final = 20
VARIANT_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Key:
    """Primary identity of a page. `dimensions` are the route's keyed headers and cookies."""

    scheme: str
    host: str
    path: str
    query: str | None = None
    dimensions: tuple[Dimension, ...] = ()
    digest: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        parts: list[str | None] = [self.scheme, self.host, self.path, self.query]
        for name, value in self.dimensions:
            parts += (name, value)
        object.__setattr__(self, "digest", _digest(parts, KEY_DIGEST_BYTES))

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def target(self) -> str:
        """The raw path and query: exactly what the origin is asked for."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def place(self) -> tuple[str, str, str]:
        """Return what all queries of a path have in common."""
        return self.scheme, self.host, self.path

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"


class Variant(Value, frozen=True):
    """Identity within a key: the request headers that the origin's Vary names, with their normal values.

    No headers at all (`PLAIN`) is the variant of a response without Vary.
    """

    headers: tuple[Dimension, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.headers)

    @property
    def digest(self) -> bytes:
        if not self.headers:  # asked for at every step of a page, and nearly always so
            return _PLAIN_DIGEST
        return _digest([part for dimension in self.headers for part in dimension], VARIANT_DIGEST_BYTES)


PLAIN: Final = Variant()


def _digest(parts: Iterable[str | None], size: int) -> bytes:
    hasher = blake2b(digest_size=size)
    for part in parts:
        if part is None:
            hasher.update(b"-")
        else:
            raw = part.encode("utf-8", "surrogatepass")  # unlike surrogateescape, never the same for two
            hasher.update(b"%d:" % len(raw))
            hasher.update(raw)
    return hasher.digest()


_PLAIN_DIGEST: Final = _digest((), VARIANT_DIGEST_BYTES)


def derive(request: Request, rules: KeyRules) -> Key:
    """Build the key of a request on a route with these rules."""
    return Key(
        request.scheme,
        request.host,
        request.path,
        canonical_query(request.query, rules),
        keyed_dimensions(request.fields, rules),
    )


def keyed_dimensions(fields: Fields, rules: KeyRules) -> tuple[Dimension, ...]:
    """Return the route's keyed headers and cookies with this request's values."""
    if not rules.headers and not rules.cookies:
        return ()
    headers = tuple((name, fields.get(name.encode("latin-1"))) for name in rules.headers)
    if not rules.cookies:
        return headers
    cookies = parse_cookies(fields.all(b"cookie"))
    return (*headers, *((f"cookie:{name}", cookies.get(name)) for name in rules.cookies))


def canonical_query(query: str | None, rules: KeyRules) -> str | None:
    """Drop what the key ignores; the rest keeps its bytes and its order.

    Split on `&` only: `;` is data, so nothing can hide behind it. What is dropped here is dropped from
    the forwarded URL too, which is what makes parameter cloaking pointless.
    """
    if not query or rules.query_mode is QueryMode.NONE:
        return None
    kept = [pair for pair in query.split("&") if pair and _is_keyed(pair.partition("=")[0], rules)]
    return "&".join(kept) or None


def _is_keyed(name: str, rules: KeyRules) -> bool:
    if rules.query_mode is QueryMode.LISTED:
        return name in rules.query_names
    return not matches_any(name, rules.ignore_query)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name equals a pattern or begins as a pattern that ends in `*`."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


def variant_of(names: Iterable[str], fields: Fields) -> Variant:
    """Return the variant that a request with these fields gets, where the origin varies on `names`."""
    return Variant(
        tuple((name, normal_value(name, fields.all(name.encode("latin-1")))) for name in sorted(set(names)))
    )
