"""What an unsafe request makes unusable (RFC 9111 §4.4, RFC 9875 §3).

Knows which URLs and groups an answer invalidates. Must not know how they are purged, nor whether anything is
stored for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from isr_proxy.core.arrival import normal_host
from isr_proxy.core.http import SAFE_METHODS, Head, Request
from isr_proxy.core.purges import Scope, Selector, group_tag
from isr_proxy.core.routes import target_problem
from isr_proxy.core.settings import Route, UnsafeMethods
from isr_proxy.core.structured import parse_strings

_POINTERS: Final = (b"location", b"content-location")


def is_unsafe(request: Request) -> bool:
    """Tell whether a request may have changed something at the origin."""
    return request.method not in SAFE_METHODS


def is_invalidated(route: Route) -> bool:
    """Tell whether the pages of a route mind unsafe requests."""
    default = UnsafeMethods.IGNORE if route.revalidate.is_isr else UnsafeMethods.INVALIDATE
    return (route.unsafe_methods or default) is UnsafeMethods.INVALIDATE


def invalidated_urls(request: Request, head: Head) -> tuple[Request, ...]:
    """Return, as requests, the URL that was asked for and those of its origin that the answer points at.

    Only of a success; the groups that an answer names are meant whatever it is.
    """
    if not 200 <= head.status < 400:
        return ()
    found = {request.target: request}
    for name in _POINTERS:
        for value in head.fields.all(name):
            pointed = _same_origin(request, value)
            if pointed is not None:
                found.setdefault(pointed.target, pointed)
    return tuple(found.values())


def _same_origin(request: Request, reference: str) -> Request | None:
    try:
        parts = urlsplit(urljoin(f"{request.scheme}://{request.host}{request.target}", reference))
    except ValueError:
        return None
    host = normal_host(parts.netloc, request.scheme)
    if parts.scheme != request.scheme or host != request.host:
        return None
    path, query = parts.path or "/", parts.query or None
    return None if target_problem(path, query) else replace(request, path=path, query=query)


def invalidated_groups(request: Request, head: Head) -> tuple[Selector, ...]:
    """Return a selector for each group that Cache-Group-Invalidation names, of this origin alone."""
    names = parse_strings(head.fields.all(b"cache-group-invalidation"))
    return tuple(Selector(Scope.TAG, group_tag(request.scheme, request.host, name)) for name in names)
