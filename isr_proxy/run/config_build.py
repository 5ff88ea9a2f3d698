"""A valid model becomes Settings: defaults under routes, routes under nothing.

Knows how a route inherits. Must not know YAML, positions or messages: what arrives here is valid.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Final

from isr_proxy.core.settings import (
    DEFAULT_STATUS_TTL,
    Address,
    AdminSettings,
    BypassRules,
    CertificateFiles,
    Guard,
    HealthSettings,
    KeyRules,
    LimitSettings,
    ListenTls,
    LogSettings,
    OriginSettings,
    OriginTls,
    PathSource,
    PathSourceKind,
    Route,
    Settings,
    StoreSettings,
    TcpAddress,
    UnixAddress,
)
from isr_proxy.run.config_model import (
    Block,
    CertificateBlock,
    Config,
    ListenBlock,
    ListenTlsBlock,
    OriginBlock,
    RouteBlock,
    RouteKeys,
)

_FILES: Final = frozenset({"ca", "certificate", "key", "client_ca"})
EVERYTHING: Final = RouteBlock(match="/**")  # the one route of a config that has none


def build(config: Config, folder: str) -> Settings:
    """Return the settings of a valid config; files that it names lie relative to `folder`."""
    top: dict[str, Any] = {
        name: value
        for name, value in config.given().items()
        if name in ("workers", "hosts", "trusted_proxies")
    }
    if (listens := config.given().get("listen")) is not None:
        top["listen"] = tuple(_address(listen, folder) for listen in listens)
    return Settings(
        **top,
        origin=_origin(config.given().get("origin"), folder),
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


def _address(block: ListenBlock, folder: str) -> Address:
    """Return an address with its TLS; a `mode` means nothing to a TCP address (`config_checks` says so)."""
    tls = None if block.tls is None else _listen_tls(block.tls, folder)
    match block.address:
        case TcpAddress():
            return replace(block.address, tls=tls)
        case UnixAddress():
            return replace(block.address, tls=tls, mode=block.mode)


def _listen_tls(block: ListenTlsBlock, folder: str) -> ListenTls:
    given = block.given()
    others = given.pop("sni", ())
    files = tuple(_certificate(one, folder) for one in (block, *others))
    del given["certificate"]
    given.pop("key", None)
    return ListenTls(files, **_beside(given, folder))


def _certificate(block: CertificateBlock, folder: str) -> CertificateFiles:
    key = None if block.key is None else _file(block.key, folder)
    return CertificateFiles(_file(block.certificate, folder), key)


def _beside(given: dict[str, Any], folder: str) -> dict[str, Any]:
    """Make the names of files absolute: they lie beside the config."""
    return {
        name: _file(value, folder) if name in _FILES and value is not None else value
        for name, value in given.items()
    }


def _file(name: str, folder: str) -> str:
    return os.path.abspath(os.path.join(folder, name))


def _origin(block: OriginBlock | None, folder: str) -> OriginSettings:
    if block is None:
        return OriginSettings()
    given = block.given()
    if "url" in given:
        given["urls"] = given.pop("url")
    if "health" in given:
        given["health"] = HealthSettings(**_given(block, "health"))
    if "tls" in given:
        given["tls"] = OriginTls(**_beside(_given(block, "tls"), folder))
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
