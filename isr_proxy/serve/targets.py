"""Which page an operator means: a path, or an absolute URL, read as a visitor's request would be.

Knows how what people type becomes a host, a raw path and a Request. Must not know what is done with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from isr_proxy.core.arrival import normal_host, split_absolute
from isr_proxy.core.http import NO_FIELDS, Fields, Request
from isr_proxy.core.routes import host_matches, target_problem
from isr_proxy.core.settings import Settings

_NOT_RAW: Final = re.compile(r"[^\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Target:
    """A raw path and query; `host` None: whichever host the site has."""

    host: str | None
    path: str
    query: str | None = None


def parse_target(text: str) -> Target:
    """Read `/path?query` or an absolute URL. What is not ASCII is percent-encoded; a fragment is dropped.

    ValueError says what is wrong.
    """
    raw = _NOT_RAW.sub(lambda found: quote(found.group()), text.strip()).partition("#")[0]
    target, authority = split_absolute(raw)
    host = None
    if authority is not None:
        host = normal_host(authority, raw.partition("://")[0].lower())
        if host is None:
            raise ValueError(f"{text!r}: {authority!r} is not a host")
    path, question, query = target.partition("?")
    problem = target_problem(path, query if question else None)
    if problem is not None:
        raise ValueError(f"{text!r}: {problem}; a path as in /blog/hello, or an absolute URL, is wanted")
    return Target(host, path, query or None)


@dataclass(frozen=True, slots=True)
class Site:
    """Under which scheme and hosts visitors come, as far as the config tells.

    A page's key has the host that its visitors ask for, so pages made ahead are found only if this is
    right: set `hosts`. Without it, it is `origin.host`, or the host of the first origin. Behind trusted
    proxies the scheme is taken to be https, as that is what they are there for.
    """

    scheme: str
    hosts: tuple[str, ...]
    allowed: tuple[str, ...]  # patterns; empty: any
    is_guessed: bool


def site_of(settings: Settings) -> Site:
    """Work out the site of a config."""
    scheme = "https" if settings.trusted_proxies else "http"
    named = tuple(host for host in settings.hosts if not host.startswith("*"))
    if named:
        return Site(scheme, named, settings.hosts, is_guessed=False)
    origin = settings.origin.host or urlsplit(settings.origin.urls[0]).netloc
    host = normal_host(origin.rpartition("@")[2], scheme) or "localhost"
    return Site(scheme, (host,), settings.hosts, is_guessed=True)


def hosts_of(target: Target, site: Site, route_host: str | None = None) -> tuple[str, ...]:
    """Return the hosts a target means: its own where visitors may ask for that, else the site's.

    `route_host` is the host of the route that names the target, if it has one.
    """
    if target.host is not None and _is_allowed(target.host, site):
        return (target.host,)
    if route_host is None:
        return site.hosts
    known = tuple(host for host in site.hosts if host_matches(route_host, host))
    return known or (() if route_host.startswith("*") else (route_host,))


def _is_allowed(host: str, site: Site) -> bool:
    return not site.allowed or any(host_matches(pattern, host) for pattern in site.allowed)


def request_of(target: Target, host: str, scheme: str, fields: Fields = NO_FIELDS) -> Request:
    """Build the GET that a visitor would send."""
    return Request("GET", scheme, host, target.path, target.query, fields)
