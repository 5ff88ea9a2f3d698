"""Attack: open PURGE, and disclosure of keys. Who may take pages away, and who may learn how they are kept.

FIELD.md sections 4.11 and 4.12: PURGE has a port of its own and a token, and is off on the main port by
default; keys are shown to the admin alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Proxy, config, running
from tests.http.attacking import CACHED, Attack, Gullible, Scene, get, table
from tests.http.requirements import requires

TOKEN = "0123456789abcdef0123456789abcdef"
ALLOWED = f"admin: {{listen: 127.0.0.1:0, token: {TOKEN}, purge_method: true}}\n"


@pytest.fixture
async def allowing(tmp_path: Path) -> AsyncIterator[Scene]:
    """A proxy that takes PURGE on the main port, from who has the token."""
    routes = "- {match: /isr/**, revalidate: 60s}\n- {match: /shared/**, revalidate: origin}\n"
    async with Gullible() as origin:
        text = config(origin.url, tmp_path / "store", routes).replace(
            "admin: {listen: 127.0.0.1:0}\n", ALLOWED
        )
        async with running(text) as proxy:
            yield Scene(origin, proxy)


def purge(*lines: bytes, target: bytes = b"PATH") -> bytes:
    return get(*lines, method=b"PURGE", target=target)


PURGES = (
    Attack("no token", purge(), CACHED),
    Attack("a wrong token", purge(b"Authorization: Bearer " + b"x" * 32), CACHED),
    Attack("the beginning of it", purge(b"Authorization: Bearer " + TOKEN[:31].encode()), CACHED),
    Attack("more than it", purge(b"Authorization: Bearer " + TOKEN.encode() + b"0"), CACHED),
    Attack("not as Bearer", purge(b"Authorization: " + TOKEN.encode()), CACHED),
    Attack("as Basic", purge(b"Authorization: Basic " + TOKEN.encode()), CACHED),
    Attack("upper case", purge(b"Authorization: Bearer " + TOKEN.upper().encode()), CACHED),
    Attack(
        "the second of two", purge(b"Authorization: x", b"Authorization: Bearer " + TOKEN.encode()), CACHED
    ),
    Attack("an empty one", purge(b"Authorization: Bearer "), CACHED),
    Attack("in a cookie", purge(b"Cookie: token=" + TOKEN.encode()), CACHED),
    Attack("in the query", purge(target=b"PATH?token=" + TOKEN.encode()), CACHED),
    Attack("from this host", purge(b"X-Forwarded-For: 127.0.0.1", b"X-Real-IP: 127.0.0.1"), CACHED),
    Attack("soft", purge(b"Fastly-Soft-Purge: 1"), CACHED),
    Attack("by tag", purge(b"Surrogate-Key: all", b"Cache-Tag: all"), CACHED),
    Attack("everything", purge(target=b"/*"), CACHED),
    Attack("absolute", purge(target=b"http://site.examplePATH"), CACHED),
)


async def _nothing_is_purged(scene: Scene, attack: Attack) -> None:
    for way in attack.ways:
        target = f"/{way}/target"
        await scene.honest(target)
        assert (await scene.ask(attack.on(target))).status in (400, 401, 403)
        await scene.proxy.settled()
        assert (await scene.proxy.get(target)).x_cache == "HIT"
    assert all(request.method == "GET" for request in scene.origin.requests)


@requires("Attack: open PURGE", "PURGE on the main port is refused by default, and does not reach the origin")
@table(*PURGES)
async def test_off_by_default(scene: Scene, attack: Attack) -> None:
    await _nothing_is_purged(scene, attack)


@requires("Attack: open PURGE", "where PURGE is allowed on the main port, only the token allows it")
@table(*PURGES)
async def test_needs_the_token(allowing: Scene, attack: Attack) -> None:
    await _nothing_is_purged(allowing, attack)


@requires("Attack: open PURGE", "the token purges what it names, and nothing else")
async def test_with_the_token(allowing: Scene) -> None:
    for name in ("target", "other"):
        await allowing.honest(f"/isr/{name}")
    granted = purge(b"Authorization: Bearer " + TOKEN.encode(), target=b"/isr/target")
    assert (await allowing.ask(granted)).status == 200
    assert (await allowing.proxy.get("/isr/target")).x_cache == "MISS"
    assert (await allowing.proxy.get("/isr/other")).x_cache == "HIT"


@requires("Attack: open PURGE", "no other method, and no override of one, purges")
@pytest.mark.parametrize("method", [b"BAN", b"DELETE", b"purge", b"PURGEALL", b"REFRESH", b"UNLOCK"])
async def test_other_methods(scene: Scene, method: bytes) -> None:
    for way in CACHED:
        target = f"/{way}/target"
        await scene.honest(target)
        await scene.ask(get(method=method, target=target.encode()))
        await scene.ask(get(b"X-HTTP-Method-Override: PURGE", target=target.encode()))
        await scene.proxy.settled()
        if method != b"DELETE":  # the origin's own: it invalidates what it changed (RFC 9111 §4.4)
            assert (await scene.proxy.get(target)).x_cache == "HIT"


@requires("Attack: open PURGE", "the admin API is not on the main port")
@pytest.mark.parametrize("path", ["/v1/purge", "/v1/entries", "/v1/status", "/metrics", "/healthz"])
async def test_admin_paths(scene: Scene, path: str) -> None:
    """They are the origin's paths there."""
    reply = await scene.proxy.get(path)
    assert reply.body.startswith(f"GET {path}\n".encode())


DEBUGGING = {
    "Fastly-Debug": "1",
    "Pragma": "akamai-x-cache-on, akamai-x-get-cache-key, akamai-x-get-true-cache-key",
    "X-Cache-Debug": "1",
    "X-Debug": "1",
    "Cache-Debug": "1",
    "X-LiteSpeed-Debug": "1",
    "Cookie": "debug=1",
}


@requires(
    "Attack: key disclosure", "no answer to a visitor tells the key, its digest, tags or where a page lies"
)
@pytest.mark.parametrize("way", CACHED)
async def test_keys_are_not_told(scene: Scene, way: str) -> None:
    target = f"/{way}/target"
    for headers in (DEBUGGING, {}, DEBUGGING):
        await _tells_nothing(scene.proxy, target, headers)
    for wrong in ("/isr/../x", "/isr/%00"):
        await _tells_nothing(scene.proxy, wrong, DEBUGGING)


async def _tells_nothing(proxy: Proxy, target: str, headers: dict[str, str]) -> None:
    reply = await proxy.get(target, headers)
    await proxy.settled()
    files = _names(proxy)
    told = " ".join(f"{name}: {value}" for name, value in reply.headers.items())
    assert not any(name in told for name in files)
    assert not any(word in told for word in (target, "site.example", "isr-cache", "127.0.0.1"))
    assert not any("key" in name or "tag" in name.replace("etag", "") for name in reply.headers)


def _names(proxy: Proxy) -> set[str]:
    return {path.name for path in Path(proxy.worker.settings.store.path).rglob("*") if path.is_file()}
