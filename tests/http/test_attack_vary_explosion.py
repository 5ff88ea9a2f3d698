"""Attack: Vary explosion. One page becomes endlessly many, or one that is different for everybody is shared.

FIELD.md section 4.13: `*` anywhere in a Vary list, what is not a name, and too many names: not stored.
"""

from __future__ import annotations

import pytest

from tests.harness import Reply
from tests.http.attacking import CACHED, Scene, get
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, Headers, page

FRESH = ("Cache-Control", "max-age=60")


async def twice(scene: Scene, way: str, *headers: tuple[str, str]) -> list[Reply]:
    """Ask twice for a page with these headers; bodies are `1` and `2`."""
    target = f"/{way}/target"
    scene.origin.on(target, page("1", [FRESH, *headers]), page("2", [FRESH, *headers]))
    replies = []
    for _ in range(2):
        replies.append(await scene.proxy.get(target, {"X-Any": "x"}))
        await scene.proxy.settled()
    return replies


NOT_STORED: list[Headers] = [
    [("Vary", "*")],
    [("Vary", "*, X-Any")],
    [("Vary", "X-Any, *")],
    [("Vary", "X-Any,*,Accept")],
    [("Vary", "Accept"), ("Vary", "*")],
    [("Vary", "*"), ("Vary", "Accept")],
    [("Vary", "\t*\t")],
    [("Vary", "Accept;*")],
    [("Vary", "X Any")],
    [("Vary", "*/*")],
    [("Vary", '"X-Any"')],
    [("Vary", "X-\xe9")],
    [("Vary", ", ".join(f"X-{number}" for number in range(40)))],
    [("Vary", f"X-{number}") for number in range(40)],
]


@requires("Attack: Vary explosion", "a star anywhere, what is no name, and too many names: not stored")
@pytest.mark.parametrize("headers", NOT_STORED, ids=str)
@pytest.mark.parametrize("way", CACHED)
async def test_not_stored(scene: Scene, way: str, headers: list[tuple[str, str]]) -> None:
    assert [reply.text for reply in await twice(scene, way, *headers)] == ["1", "2"]


@requires(
    "Attack: Vary explosion", "empty members, other spellings and repetitions are no names of their own"
)
@pytest.mark.parametrize("value", ["", ",", "Accept,,Accept", "ACCEPT, accept", ", ".join(["X-Any"] * 100)])
@pytest.mark.parametrize("way", CACHED)
async def test_one_name(scene: Scene, way: str, value: str) -> None:
    first, second = await twice(scene, way, ("Vary", value))
    assert (first.text, second.x_cache) == (second.text, "HIT")


@requires(
    "Attack: Vary explosion", "a page has at most max_variants variants; the rest passes or takes their place"
)
@pytest.mark.parametrize("way", CACHED)
async def test_capped(scene: Scene, way: str) -> None:
    async def varying(exchange: Exchange) -> None:
        said = exchange.request.header("x-any")
        await exchange.run(page(f"for {said}", [FRESH, ("Vary", "X-Any")]))

    target = f"/{way}/target"
    scene.origin.on(target, varying)
    for number in range(40):
        reply = await scene.ask(get(f"X-Any: {number}".encode(), target=target.encode()))
        await scene.proxy.settled()
        assert reply.text == (f"for {number}")
    assert scene.proxy.worker.disk.stat().entries <= 16


@requires(
    "Attack: Vary explosion", "a value that is long or odd is a value, and nobody else gets its variant"
)
@pytest.mark.parametrize("value", ["x" * 7000, "", "\xff", "a, b", "b, a", "*", "1:2", "None"])
@pytest.mark.parametrize("way", CACHED)
async def test_odd_values(scene: Scene, way: str, value: str) -> None:
    async def varying(exchange: Exchange) -> None:
        said = exchange.request.header("x-any")
        await exchange.run(page(f"for {said}".encode("latin-1"), [FRESH, ("Vary", "X-Any")]))

    target = f"/{way}/target"
    scene.origin.on(target, varying)
    for _ in range(2):
        evil = await scene.ask(get(b"X-Any: " + value.encode("latin-1"), target=target.encode()))
        await scene.proxy.settled()
        honest = await scene.proxy.get(target)
        await scene.proxy.settled()
        assert (evil.body, honest.text) == (f"for {value}".encode("latin-1"), "for None")
