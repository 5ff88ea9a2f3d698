"""Attack: path discrepancy. Proxy and origin read one path as two.

FIELD.md section 4.4: one string serves route, key and origin. Whatever servers read differently is refused;
an encoded delimiter passes and is never stored.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import config, running
from tests.http.attacking import CACHED, WAYS, Attack, Gullible, Scene, get, owed, table
from tests.http.requirements import requires


def at(suffix: bytes) -> Attack:
    return Attack(repr(suffix)[2:-1], get(target=b"PATH" + suffix))


@requires(
    "Attack: path discrepancy", "raw # and \\, NUL, control bytes and dot segments in any spelling are 400"
)
@table(
    *map(at, (b"#evil", b"?a#evil", b"\\evil", b"/%00", b"%00.css", b"?%00", b"%", b"%2", b"%zz", b"%u002e")),
    *map(at, (b"/../evil", b"/..", b"/./evil", b"/.", b"/.?x")),
    *map(at, (b"/%2e%2e/evil", b"/.%2e/evil", b"/%2e./evil", b"/%2E%2e", b"/%2e/evil")),
    *map(at, (b"/..;/evil", b"/.;/evil", b"/..;x=y/evil", b"/%2e%2e;/evil", b"/%2e;a=b/evil")),
    Attack("another scheme", get(target=b"ftp://site.examplePATH")),
    Attack("no scheme", get(target=b"site.examplePATH")),
    Attack("the star", get(target=b"*")),
)
async def test_refused(scene: Scene, attack: Attack) -> None:
    """The request is well delimited, so whoever comes behind it on the connection is answered."""
    for way in attack.ways:
        reply = await scene.ask(attack.on(f"/{way}/target"))
        assert (reply.status, reply.headers["cache-control"]) == (400, "no-store")
    assert scene.origin.requests == []
    await scene.harmless(attack)
    assert {request.target.rpartition("/")[2] for request in scene.origin.requests} <= {
        *("behind", "after", "honest", "target")
    }


@requires("Attack: path discrepancy", "bytes that no parser should meet end the connection")
@table(
    *map(at, (b"\x00", b"\x01", b"\x7f", b"\x0b", b"\xff", b"\xc0\xae\xc0\xae/x", b"\xc3\xa9", b" x", b"\tx"))
)
async def test_broken(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


ENCODED = [
    b"/%2fevil",
    b"%2F..%2fevil",
    b"/..%2fevil",
    b"/..%5cevil",
    b"%5cevil",
    b"%3bevil",
    b"%23evil",
    b"%3fevil",
]


@requires("Attack: path discrepancy", "an encoded / \\ ; # or ? passes as it is, and is never stored")
@table(*map(at, ENCODED))
async def test_encoded_delimiters(scene: Scene, attack: Attack) -> None:
    for way in attack.ways:
        for _ in range(2):
            target = attack.raw.split(b" ")[1].decode().replace("PATH", f"/{way}/target")
            reply = await scene.ask(attack.on(f"/{way}/target"))
            assert (reply.x_cache, reply.body) == ("PASS", owed(target))
    assert len(scene.origin.requests) == 2 * len(WAYS)
    await scene.nobody_else_is_hit()


OTHERS = [
    b"//evil",
    b"/",
    b"//",
    b";evil",
    b"/%252e%252e/evil",
    b"/%c0%ae%c0%ae/evil",
    b"/%c0%af",
    b"%0aevil",
]
MORE = [
    b"%0d%0aX:y",
    b"%09",
    b"%20",
    b"/...",
    b"%7e",
    b"%41",
    b"?a\\b",
    b"?%",
    b"?a=%0d%0a",
    b'"<>^`{|}',
    b"??a",
]


@requires(
    "Attack: path discrepancy", "every other spelling is a page of its own, asked for as it was written"
)
@table(*map(at, OTHERS + MORE))
async def test_one_string(scene: Scene, attack: Attack) -> None:
    for way in attack.ways:
        target = attack.raw.split(b" ")[1].decode().replace("PATH", f"/{way}/target")
        for _ in range(2):
            assert (await scene.ask(attack.on(f"/{way}/target"))).body == owed(target)
            await scene.proxy.settled()
    await scene.nobody_else_is_hit()


@requires("Attack: path discrepancy", "an absolute target and an origin-form one are the same page")
@pytest.mark.parametrize("way", CACHED)
async def test_absolute_form(scene: Scene, way: str) -> None:
    target = f"/{way}/target"
    await scene.honest(target)
    for form in (f"http://site.example{target}", f"HTTP://SITE.example:80{target}"):
        reply = await scene.ask(get(target=form.encode()))
        assert (reply.x_cache, reply.body) == ("HIT", owed(target))


@requires(
    "Attack: path discrepancy", "a path that only the origin reads as a private one is not shared under it"
)
@pytest.mark.parametrize(
    "spelling", ["/%61ccount/me", "//account/me", "/account%2fme", "/Account/me", "/account;/me"]
)
async def test_route_confusion(tmp_path: Path, spelling: str) -> None:
    """It misses the route `/account/**`; what is stored under it, if at all, is nobody's page."""
    routes = "- {match: /account/**, revalidate: 0}\n- {match: /**, revalidate: 60s}"
    async with Gullible() as origin, running(config(origin.url, tmp_path / "store", routes)) as proxy:
        await proxy.get(spelling, {"Cookie": "session=anna"})
        await proxy.settled()
        cookies = [request.header("cookie") for request in origin.requests]
        reply = await proxy.get(spelling)
        assert reply.x_cache == "PASS" or cookies == [None]
