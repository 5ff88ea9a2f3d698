"""A valid model becomes Settings: defaults under routes, routes under nothing.

Knows how a route inherits. Must not know YAML, positions or messages: what arrives here is valid.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Final

from isr_proxy.core.settings import (
    DEFAULT_STATUS_TTL,
    AdminSettings,
    BypassRules,
    Guard,
    HealthSettings,
    KeyRules,
    LimitSettings,
    LogSettings,
    OriginSettings,
    PathSource,
    PathSourceKind,
    Route,
    Settings,
    StoreSettings,
)
from isr_proxy.run.config_model import Block, Config, OriginBlock, RouteBlock, RouteKeys

EVERYTHING: Final = RouteBlock(match="/**")  # the one route of a config that has none


def build(config: Config, folder: str) -> Settings:
    """Return the settings of a valid config; files that it names lie relative to `folder`."""
    top: dict[str, Any] = {
        name: value
        for name, value in config.given().items()
        if name in ("listen", "workers", "hosts", "trusted_proxies")
    }
    return Settings(
        **top,
        origin=_origin(config.given().get("origin")),
        store=StoreSettings(**_given(config, "store")),
        admin=AdminSettings(**_given(config, "admin")),
        limits=LimitSettings(**_given(config, "limits")),
        routes=tuple(build_route(config, route, folder) for route in routes_of(config)),
        log=LogSettings(**_given(config, "log")),
    )


def routes_of(config: Config) -> tuple[RouteBlock, ...]:
    """Return the routes of a config; without any, one for everything."""
    return config.given().get("routes") or (EVERYTHING,)


def defaults_of(config: Config) -> RouteKeys:
    """Return what routes inherit."""
    found: RouteKeys = config.given().get("defaults") or RouteKeys()
    return found


def _given(block: Block, name: str) -> dict[str, Any]:
    inner = block.given().get(name)
    return inner.given() if isinstance(inner, Block) else {}


def _origin(block: OriginBlock | None) -> OriginSettings:
    if block is None:
        return OriginSettings()
    given = block.given()
    if "url" in given:
        given["urls"] = given.pop("url")
    if "health" in given:
        given["health"] = HealthSettings(**_given(block, "health"))
    return OriginSettings(**given)


def build_route(config: Config, route: RouteBlock, folder: str) -> Route:
    """Return a route with what it inherits.

    Its own keys win; `key`, `bypass`, `guard` and `status_ttl` are merged key by key.
    """
    defaults = defaults_of(config)
    given = {**defaults.given(), **route.given()}
    statuses = [
        dict(DEFAULT_STATUS_TTL),
        *(block.given().get("status_ttl", {}) for block in (defaults, route)),
    ]
    given["status_ttl"] = tuple({code: ttl for ttls in statuses for code, ttl in ttls.items()}.items())
    given["key"] = _key_rules(_inherited(defaults, route, "key"))
    given["bypass"] = BypassRules(**_inherited(defaults, route, "bypass"))
    given["guard"] = Guard(**_inherited(defaults, route, "guard"))
    given["ignore_origin"] = frozenset(given.get("ignore_origin", ()))
    given["prerender"] = tuple(_resolved(source, folder) for source in given.get("prerender", ()))
    given.setdefault("match", "")  # only while problems are collected; such a route never leaves `config`
    return Route(**given)


def _inherited(defaults: RouteKeys, route: RouteKeys, name: str) -> dict[str, Any]:
    return {**_given(defaults, name), **_given(route, name)}


def _key_rules(given: dict[str, Any]) -> KeyRules:
    if "query" in given:
        given["query_mode"], given["query_names"] = given.pop("query")
    return KeyRules(**given)


def _resolved(source: PathSource, folder: str) -> PathSource:
    if source.kind is not PathSourceKind.FILE:
        return source
    return replace(source, value=os.path.abspath(os.path.join(folder, source.value)))
