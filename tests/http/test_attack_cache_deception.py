"""Attack: cache deception. A visitor is led to a path that looks static, so that his page is stored.

FIELD.md section 4.5: no extension rule ever overrides private, no-store, Set-Cookie or Authorization. The
origin here is one that ignores what follows /account, as many frameworks can be made to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.harness import Reply
from tests.http.attacking import WAYS, Scene, get
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, page

PATHS = [
    "/account/x.css",
    "/account%2fx.css",
    "/account;x.css",
    "/account%3bx.css",
    "/account%0ax.css",
    "/account%23x.css",
    "/account%3fx.css",
    "/account.css",
    "/account/.css",
    "/account/robots.txt",
    "/account//x.js",
    "/account/%2e%2e%2fx.css",
    "/account?x.css",
    "/account?cb=1.css",
    "/account/favicon.ico",
    "/account/static/x.png",
]
PRIVATE = [
    {"Cache-Control": "private"},
    {"Cache-Control": "no-store"},
    {"Cache-Control": "private, max-age=60"},
    {"Cache-Control": "max-age=60, no-store"},
    {"Cache-Control": "max-age=60", "Set-Cookie": "session=anna"},
    {"Cache-Control": "public, max-age=60", "Vary": "*"},
]


def account(headers: Mapping[str, str]) -> Callable[[Exchange], Awaitable[None]]:
    """Return an origin's script that says who is logged in."""

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        who = request.header("cookie") or request.header("authorization") or "nobody"
        await exchange.run(page(f"account of {who}", {"Content-Type": "text/css", **headers}))

    return script


async def asked(scene: Scene, target: str, *lines: bytes) -> Reply:
    reply = await scene.ask(get(*lines, target=target.encode()))
    await scene.proxy.settled()
    return reply


@requires("Attack: cache deception", "a page that says it is private is not stored, whatever its path")
@pytest.mark.parametrize("headers", PRIVATE, ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_private_pages(scene: Scene, way: str, headers: dict[str, str]) -> None:
    scene.origin.otherwise = account(headers)
    for path in PATHS:
        await asked(scene, f"/{way}{path}", b"Cookie: anna")
        reply = await asked(scene, f"/{way}{path}")
        assert (path, reply.text) == (path, "account of nobody")


@requires("Attack: cache deception", "what a logged-in visitor gets is not stored without the origin's word")
@pytest.mark.parametrize("line", [b"Cookie: anna", b"Authorization: anna"])
@pytest.mark.parametrize("way", WAYS)
async def test_public_pages_of_private_visitors(scene: Scene, way: str, line: bytes) -> None:
    scene.origin.otherwise = account({"Cache-Control": "max-age=60"})
    for path in PATHS:
        await asked(scene, f"/{way}{path}", line)
        reply = await asked(scene, f"/{way}{path}")
        assert (path, reply.text) == (path, "account of nobody")


@requires("Attack: cache deception", "an ISR page is made for nobody, so nobody's is all that is stored")
@pytest.mark.parametrize("path", PATHS)
async def test_isr_pages(scene: Scene, path: str) -> None:
    scene.origin.otherwise = account({"Cache-Control": "public, max-age=60"})
    for _ in range(2):
        reply = await asked(scene, f"/isr{path}", b"Cookie: anna")
        assert (reply.x_cache, reply.text) == ("PASS", "account of anna") or reply.text == "account of nobody"
    assert (await asked(scene, f"/isr{path}")).text == "account of nobody"
