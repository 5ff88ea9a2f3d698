"""What keys mean together: each rule here needs two of them.

Knows which combinations are refused and why. Must not know YAML or pydantic. Each check looks only at what
is not already reported, so that one mistake is one problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from isr_proxy.core.routes import compile_pattern
from isr_proxy.core.settings import (
    MIB,
    Address,
    AdminSettings,
    RevalidateMode,
    Route,
    SetCookie,
    Settings,
    TcpAddress,
)
from isr_proxy.run.config_build import defaults_of, routes_of
from isr_proxy.run.config_model import Config, RouteBlock
from isr_proxy.run.config_scalars import is_loopback
from isr_proxy.run.config_tls import check_tls, place_of_listen
from isr_proxy.run.config_tree import Document, Path

_SMALLEST_STORE: Final = 4 * MIB
_TAG_CAPTURE: Final = re.compile(r"\{([^{}]*)\}")
_CAPTURE_NAME: Final = re.compile(r"\?P<\w+>")


def _shape(match: str) -> str:
    """Return what a pattern matches, whatever its captures are called."""
    return _CAPTURE_NAME.sub("", compile_pattern(match).regex.pattern)


_EVERYTHING: Final = _shape("/**")


def check(config: Config, settings: Settings, document: Document) -> None:
    """Add a problem to the document for each combination that is refused."""
    _check_listen(settings, document)
    check_tls(settings, document)
    _check_admin(settings.admin, document)
    _check_store(settings, document)
    routes = routes_of(config)
    for index, (block, route) in enumerate(zip(routes, settings.routes, strict=True)):
        _Route(config, document, index, block, route).check()
    _check_reachable(settings.routes, document)


def _refuse(document: Document, path: Path, message: str) -> None:
    if not document.is_broken(path):
        document.report(path, document.value_mark(path), message)


def _check_listen(settings: Settings, document: Document) -> None:
    seen: list[str] = []
    for index, address in enumerate(settings.listen):
        path = place_of_listen(document, index)
        if str(address) in seen and not _is_any_port(address):
            _refuse(document, path, f"`{address}` stands here twice; allowed: each address once")
        seen.append(str(address))
        if isinstance(address, TcpAddress) and document.has((*path, "mode")):
            message = "means the file of a unix socket, and this is none; leave it out"
            _refuse(document, (*path, "mode"), message)
    if str(settings.admin.listen) in seen and not _is_any_port(settings.admin.listen):
        message = f"`{settings.admin.listen}` is a `listen` address too; allowed: one of its own"
        _refuse(document, ("admin", "listen"), message)


def _is_any_port(address: Address) -> bool:
    return isinstance(address, TcpAddress) and address.port == 0


def _check_admin(admin: AdminSettings, document: Document) -> None:
    if admin.token is not None or document.is_broken(("admin", "token")):
        return
    if not is_loopback(admin.listen):
        message = (
            f"`{admin.listen}` can be reached from other hosts, so `admin.token` is needed; "
            "allowed without: 127.0.0.1:8081, [::1]:8081 or unix:/path"
        )
        _refuse(document, ("admin", "listen"), message)
    if admin.purge_method:
        message = "PURGE on the main listener needs `admin.token`; allowed without: false"
        _refuse(document, ("admin", "purge_method"), message)


def _check_store(settings: Settings, document: Document) -> None:
    if settings.store.max_size < _SMALLEST_STORE:
        message = "too small for the directories and the catalog themselves; allowed: 4MiB or more"
        _refuse(document, ("store", "max_size"), message)
        return
    if settings.store.max_entry > settings.store.max_size:
        given: Path = ("store", "max_entry")
        path = given if document.has(given) else ("store", "max_size")
        _refuse(document, path, "`max_entry` is larger than `max_size`; allowed: at most the whole store")


class _Route:
    """The checks of one route, each with the place where the key was given: the route or `defaults`."""

    def __init__(
        self, config: Config, document: Document, index: int, block: RouteBlock, route: Route
    ) -> None:
        self._own = block.model_fields_set
        self._inherited = defaults_of(config).model_fields_set
        self._document = document
        self._place: Path = ("routes", index)
        self._route = route

    def check(self) -> None:
        if not self._route.match:
            message = "missing: the paths of this route; allowed: a pattern such as /blog/{slug} or /**"
            _refuse(self._document, (*self._place, "match"), message)
        else:
            self._check_tags()
        if not self._document.is_broken((*self._place, "revalidate")):
            self._check_set_cookie()

    def _path(self, key: str) -> Path:
        return ("defaults", key) if key in self._inherited and key not in self._own else (*self._place, key)

    def _check_set_cookie(self) -> None:
        refused = self._route.revalidate.mode is not RevalidateMode.ORIGIN
        if self._route.set_cookie is SetCookie.STORE and refused:
            name = f"routes[{self._place[1]}]"
            message = f"`store` needs `revalidate: origin`, which {name} has not; allowed: refuse or drop"
            _refuse(self._document, self._path("set_cookie"), message)

    def _check_tags(self) -> None:
        captures = compile_pattern(self._route.match).captures
        for index, tag in enumerate(self._route.tags):
            for name in _TAG_CAPTURE.findall(tag):
                if name not in captures:
                    _refuse(self._document, (*self._path("tags"), index), self._no_capture(name, captures))

    def _no_capture(self, name: str, captures: Iterable[str]) -> str:
        known = ", ".join(f"{{{capture}}}" for capture in captures) or "none, it has no captures"
        return f"{{{name}}} is not a capture of `{self._route.match}`; allowed: {known}"


def _check_reachable(routes: tuple[Route, ...], document: Document) -> None:
    first: dict[tuple[str, str | None], int] = {}
    for index, route in enumerate(routes):
        shape = _shape(route.match) if route.match else ""
        hiding = [first[key] for key in _hidden_by(shape, route.host) if key in first]
        if hiding and route.match:
            earlier = min(hiding)
            message = (
                f"never matches: routes[{earlier}] (`{routes[earlier].match}`) comes first and takes "
                "every such request; move this route up, or remove it"
            )
            _refuse(document, ("routes", index, "match"), message)
        if route.match:
            first.setdefault((shape, route.host), index)


def _hidden_by(shape: str, host: str | None) -> list[tuple[str, str | None]]:
    """Return what, coming earlier, takes every request of a route: the same, or everything."""
    return [(pattern, at) for pattern in (shape, _EVERYTHING) for at in (host, None)]
