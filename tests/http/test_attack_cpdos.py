"""Attack: CPDoS. A request that the origin answers with an error, which is then everybody's page.

FIELD.md section 4.6: our limits are at or below those of common origins, errors other than 404 and 410 are
stored only where the origin says so, and never replace a good page; method overrides are stripped.
"""

from __future__ import annotations

import pytest

from tests.harness import FakeClock
from tests.http.attacking import CACHED, WAYS, Attack, Scene, get, owed, table
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, head, page


def large(size: int) -> bytes:
    return b"X-Oversized: " + b"x" * (size - len(b"X-Oversized: "))


@requires("Attack: CPDoS", "a head that common origins refuse is refused here (HHO)")
@table(
    Attack("large line", get(large(9000))),
    Attack("twice as large", get(large(16_000))),
    Attack("large name", get(b"X" * 9000 + b": x")),
    Attack("large cookie", get(b"Cookie: a=" + b"x" * 9000)),
    Attack("many lines", get(*(b"X-%d: x" % number for number in range(128)))),
)
async def test_oversized(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack, 431)


@requires("Attack: CPDoS", "a target that common origins refuse is refused here")
async def test_oversized_targets(scene: Scene) -> None:
    await scene.refused(Attack("target", get(target=b"PATH?" + b"x" * 9000)), 414, 431)


@requires("Attack: CPDoS", "a head within the limits is no error at the origin either")
@table(
    Attack("large line", get(large(8000))),
    Attack("many lines", get(*(b"X-%d: x" % number for number in range(100)))),
)
async def test_large(scene: Scene, attack: Attack) -> None:
    await scene.harmless(attack)


@requires("Attack: CPDoS", "meta characters do not reach the origin (HMC)")
@table(
    *(Attack(f"{byte:#04x}", get(b"X-Meta: x%cy" % byte)) for byte in (0, 7, 8, 10, 11, 12, 13, 27, 127)),
)
async def test_meta_characters(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: CPDoS", "a method override does not reach the origin of a cacheable route (HMO)")
@table(
    *(
        Attack(name.decode(), get(name + b": DELETE"), CACHED)
        for name in (
            b"X-HTTP-Method-Override",
            b"X-HTTP-Method",
            b"X-Method-Override",
            b"X_HTTP_Method_Override",
        )
    )
)
async def test_method_overrides(scene: Scene, attack: Attack) -> None:
    for way in attack.ways:
        assert (await scene.ask(attack.on(f"/{way}/target"))).body == owed(f"/{way}/target")
    await scene.harmless(attack)


# Whatever makes this origin fail.
PROVOKING = [
    b"Accept: */evil",
    b"Accept-Language: evil",
    b"Accept-Encoding: evil",
    b"Authorization: evil",
    b"Content-Type: evil",
    b"Cookie: evil",
    b"If-Match: evil",
    b"If-Unmodified-Since: evil",
    b"Max-Forwards: evil",
    b"Origin: evil",
    b"Range: bytes=evil",
    b"Referer: evil",
    b"Trailer: evil",
    b"Transfer_Encoding: evil",
    b"Upgrade: evil",
    b"User-Agent: evil",
    b"X-Anything: evil",
]


@requires("Attack: CPDoS", "an error that a visitor provoked is not the next visitor's page")
@pytest.mark.parametrize("status", [400, 401, 403, 405, 406, 412, 413, 416, 417, 429, 431, 500, 501, 503])
@pytest.mark.parametrize("way", WAYS)
async def test_provoked_errors(scene: Scene, way: str, status: int) -> None:
    async def easily_provoked(exchange: Exchange) -> None:
        said = b"evil" in exchange.request.raw_head
        good = {"Cache-Control": "max-age=60"}
        await exchange.run(page("error", {}, status) if said else page(owed(target), good))

    for number, line in enumerate(PROVOKING):
        target = f"/{way}/{number}"
        scene.origin.on(target, easily_provoked)
        await scene.ask(get(line, target=target.encode()))
        await scene.honest(target)


@requires("Attack: CPDoS", "an error never replaces a good page, though the origin calls it fresh")
@pytest.mark.parametrize("status", [400, 403, 405, 500, 501, 503])
@pytest.mark.parametrize("way", CACHED)
async def test_good_pages_stay(scene: Scene, clock: FakeClock, way: str, status: int) -> None:
    target = f"/{way}/target"
    fresh = {"Cache-Control": "max-age=60, stale-if-error=9999"}
    scene.origin.on(
        target, page(owed(target), fresh), page("error", fresh, status), page(owed(target), fresh)
    )
    await scene.honest(target)
    clock.advance(61)
    await scene.ask(get(target=target.encode()))
    await scene.proxy.settled()
    await scene.honest(target)


@requires("Attack: CPDoS", "a redirect that a visitor's header provoked is not stored")
async def test_provoked_redirects(scene: Scene) -> None:
    async def redirects(exchange: Exchange) -> None:
        scheme, host = (exchange.request.header(f"x-forwarded-{name}") for name in ("proto", "host"))
        if (scheme, host) != ("http", "site.example"):
            await exchange.send(head(301, {"Location": f"{scheme}://{host}/", "Content-Length": "0"}))
        else:
            await exchange.run(page(owed(exchange.request.target), {"Cache-Control": "max-age=60"}))

    for way in CACHED:
        target = f"/{way}/target"
        scene.origin.on(target, redirects)
        for line in (b"X-Forwarded-Scheme: http", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil"):
            await scene.ask(get(line, target=target.encode()))
            await scene.honest(target)
