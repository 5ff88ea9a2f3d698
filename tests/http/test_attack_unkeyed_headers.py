"""Attack: unkeyed headers. A header that is not in the key changes a page that everybody gets.

FIELD.md section 4.1: stripped on cacheable routes unless keyed; X-Forwarded-* rebuilt by us, believed only
from trusted proxies; underscore twins dropped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import config, running
from tests.http.attacking import (
    CACHED,
    Attack,
    Gullible,
    Scene,
    get,
    owed,
    table,
)
from tests.http.requirements import requires

UNKEYED = [
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Server: evil.example",
    b"X-Forwarded-Scheme: nothttps",
    b"X-Forwarded-Proto: nothttps",
    b"X-Forwarded-Port: 1337",
    b"X-Forwarded-Ssl: on",
    b"X-Forwarded-Prefix: /evil",
    b"X-Forwarded-Path: /evil",
    b"X-Forwarded-Uri: /evil",
    b"X-Host: evil.example",
    b"X-Original-Host: evil.example",
    b"X-HTTP-Host-Override: evil.example",
    b"Forwarded: host=evil.example;proto=https",
    b"X-Original-URL: /evil",
    b"X-Rewrite-URL: /evil",
    b"X-Url-Scheme: https",
    b"X-HTTP-Method: DELETE",
    b"X-HTTP-Method-Override: POST",
    b"X-Method-Override: PUT",
    b"X-Matched-Path: /evil",
    b"X-Invoke-Path: /evil",
    b"X-Now-Route-Matches: 1=evil",
    b"X-Middleware-Subrequest: middleware",
]

# Written by us, or dropped, on every route; the rest is the visitor's own where his request passes.
REBUILT = [
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Scheme: nothttps",
    b"X-Forwarded-Proto: nothttps",
    b"X-Forwarded-Port: 1337",
    b"X-Forwarded-Ssl: on",
    b"Forwarded: host=evil.example;proto=https",
    b"X_Forwarded_Host: evil.example",
    b"X-Forwarded_Host: evil.example",
]


def row(*lines: bytes) -> Attack:
    name = b" | ".join(lines).decode()
    return Attack(name, get(*lines), CACHED)


@requires(
    "Attack: unkeyed headers", "what is known to change pages does not reach the origin of a cacheable route"
)
@table(
    *(row(line) for line in UNKEYED),
    *(row(line.upper()) for line in UNKEYED[:2]),
    *(row(line.replace(b"-", b"_", 1)) for line in UNKEYED),
    row(b"X_Forwarded_Host: evil.example"),
    row(b"X-Forwarded-Host: site.example", b"X-Forwarded-Host: evil.example"),
    row(b"X-Forwarded-Host: evil.example", b"Connection: x-forwarded-proto, x-forwarded-host"),
)
async def test_stripped(scene: Scene, attack: Attack) -> None:
    """The attacker is the first to ask, so it is his request that fills the cache."""
    for way in attack.ways:
        reply = await scene.ask(attack.on(f"/{way}/target"))
        assert (reply.status, reply.body) == (200, owed(f"/{way}/target"))
    await scene.nobody_else_is_hit(attack.ways)


@requires("Attack: unkeyed headers", "X-Forwarded-* and Forwarded are rebuilt by us where a request passes")
@table(*(Attack(line.decode(), get(line)) for line in REBUILT))
async def test_rebuilt(scene: Scene, attack: Attack) -> None:
    reply = await scene.ask(attack.on("/pass/target"))
    assert (reply.status, reply.body) == (200, owed("/pass/target"))


@requires("Attack: unkeyed headers", "what Connection names is dropped, but nothing that we rely on")
@table(
    Attack("the address", get(b"Connection: close, x-forwarded-for")),
    Attack("host", get(b"Connection: close, host")),
    Attack("everything of ours", get(b"Connection: via, x-forwarded-host, x-forwarded-proto, host")),
    Attack("all that is hop-by-hop", get(b"Connection: keep-alive, te, trailer, upgrade, proxy-connection")),
    Attack("rubbish", get(b'Connection: ,;"x, \xff, close')),
)
async def test_nominated(scene: Scene, attack: Attack) -> None:
    await scene.harmless(attack)
    for request in scene.origin.requests:
        if request.target.startswith(("/pass", "/shared")):
            assert request.header("x-forwarded-for") == "127.0.0.1"


@requires("Attack: unkeyed headers", "a visitor cannot have a personal header dropped to be taken for nobody")
@pytest.mark.parametrize("name", ["Cookie", "Authorization"])
async def test_nominated_personal_headers(scene: Scene, name: str) -> None:
    """It is dropped before the key, the bypass and the origin are chosen, so all of them see the same."""
    raw = get(f"Connection: {name}".encode(), f"{name}: session=1".encode())
    for way in CACHED:
        reply = await scene.ask(raw.replace(b"PATH", f"/{way}/target".encode()))
        assert reply.body == owed(f"/{way}/target")
    assert all(request.header(name) is None for request in scene.origin.requests)
    await scene.nobody_else_is_hit(CACHED)


@requires("Attack: unkeyed headers", "a route that needs such a header keys it, and then it is forwarded")
@pytest.mark.parametrize("revalidate", ["60s", "origin"])
async def test_keyed(tmp_path: Path, revalidate: str) -> None:
    routes = f"- {{match: /**, revalidate: {revalidate}, key: {{headers: [x-original-host]}}}}"
    async with (
        Gullible() as origin,
        running(config(origin.url, tmp_path / "store", routes)) as proxy,
    ):
        for tenant in ("a", "b", "a"):
            reply = await proxy.get("/p", {"X-Original-Host": tenant})
            await proxy.settled()
            assert f"x-original-host: {tenant}\n".encode() in reply.body
        await proxy.get("/q", {"X_Original_Host": "evil"})
        await proxy.settled()
        assert (await proxy.get("/q")).body == owed("/q")
        assert (await proxy.get("/p")).body == owed("/p")
        assert len(origin.requests) == 4


@requires("Attack: unkeyed headers", "X-Forwarded-* of a visitor behind a trusted proxy is his claim still")
async def test_behind_a_trusted_proxy(tmp_path: Path) -> None:
    routes = "- {match: /**, revalidate: 60s}"
    more = "trusted_proxies: [127.0.0.0/8]\n"
    async with (
        Gullible() as origin,
        running(config(origin.url, tmp_path / "store", routes, more=more)) as proxy,
    ):
        claims = {"X-Forwarded-Host": "evil.example, site.example", "X-Forwarded-For": "6.6.6.6, 7.7.7.7"}
        assert (await proxy.get("/p", claims)).body == owed("/p")
        refused = await proxy.get("/p", {"X-Forwarded-Host": "evil@site.example"})
        assert refused.status == 400
