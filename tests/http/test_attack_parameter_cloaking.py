"""Attack: parameter cloaking. The origin sees a parameter that the key does not.

FIELD.md section 4.3: what the key ignores is removed from the forwarded URL too; split on `&` only, `;` is
data. The gullible origin's page says which target it was asked for, so a hidden parameter would show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import config, running
from tests.http.attacking import Gullible, Scene, get, owed
from tests.http.requirements import requires

ROUTES = """\
- {match: /isr/**, revalidate: 60s}
- {match: /shared/**, revalidate: origin}
- {match: /listed/**, revalidate: 60s, key: {query: [page]}}
- {match: /none/**, revalidate: 60s, key: {query: none}}
- {match: /**, revalidate: 0}
"""


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Gullible() as origin, running(config(origin.url, tmp_path / "store", ROUTES)) as proxy:
        yield Scene(origin, proxy)


# What is asked, and what the origin is asked for: exactly what is in the key.
IGNORED = [
    ("utm_content=1;callback=evil", ""),
    ("utm_content=1%26callback=evil", ""),
    ("utm_source=x&utm_source=y", ""),
    ("utm_source[]=x", ""),
    ("gclid=1&utm_campaign=x", ""),
    ("&&utm_source=x&", ""),
    ("", ""),
    ("page=1&utm_content=x;page=2", "page=1"),
    ("utm_content=x;&page=1", "page=1"),
    ("page=1&utm_source=x&page=2", "page=1&page=2"),
]
KEPT = [
    "callback=evil",
    "page=1;callback=evil",
    "page=1&page=2",
    "page=2&page=1",
    "%75tm_source=evil",
    "utm%5fsource=evil",
    "UTM_SOURCE=evil",
    "+utm_source=evil",
    "xutm_source=evil",
    ";utm_source=evil",
    "page=1?utm_source=x",
    "callback=evil%0d%0aX:1",
    "callback[]=evil",
    "=evil",
    "a=b\\&c",
]


@requires("Attack: parameter cloaking", "what the key ignores does not reach the origin either")
@pytest.mark.parametrize(("asked", "kept"), IGNORED)
@pytest.mark.parametrize("way", ["isr", "shared"])
async def test_ignored(keyed: Scene, way: str, asked: str, kept: str) -> None:
    target = f"/{way}/target?{kept}" if kept else f"/{way}/target"
    reply = await keyed.ask(get(target=f"/{way}/target?{asked}".encode()))
    assert (reply.status, reply.body) == (200, owed(target))
    await keyed.honest(target)
    assert [request.target for request in keyed.origin.requests] == [target]


@requires("Attack: parameter cloaking", "what the key does not ignore is in the key, byte for byte")
@pytest.mark.parametrize("asked", KEPT)
@pytest.mark.parametrize("way", ["isr", "shared"])
async def test_kept(keyed: Scene, way: str, asked: str) -> None:
    reply = await keyed.ask(get(target=f"/{way}/target?{asked}".encode()))
    assert (reply.status, reply.body) == (200, owed(f"/{way}/target?{asked}"))
    await keyed.honest(f"/{way}/target")
    await keyed.honest(f"/{way}/target?page=1")


@requires(
    "Attack: parameter cloaking", "of a list of names nothing else reaches the origin, however it is spelled"
)
@pytest.mark.parametrize(
    "hidden", ["callback=evil", "%70age=evil", "page;=evil", "Page=evil", "page%3d=evil"]
)
async def test_listed(keyed: Scene, hidden: str) -> None:
    for asked in (f"page=1&{hidden}", f"{hidden}&page=1"):
        reply = await keyed.ask(get(target=f"/listed/target?{asked}".encode()))
        assert reply.body == owed("/listed/target?page=1")
    reply = await keyed.ask(get(target=f"/none/target?page=1&{hidden}".encode()))
    assert reply.body == owed("/none/target")
    assert len(keyed.origin.requests) == 2


@requires(
    "Attack: parameter cloaking",
    "a bypass parameter is seen raw and encoded, so nobody fills the store with it",
)
@pytest.mark.parametrize("asked", ["preview=1", "%70review=1", "previe%77=1", "a=1&preview", "preview"])
async def test_bypass(tmp_path: Path, asked: str) -> None:
    routes = "- {match: /**, revalidate: 60s, key: {query: none}, bypass: {query: [preview]}}"
    async with Gullible() as origin, running(config(origin.url, tmp_path / "store", routes)) as proxy:
        reply = await proxy.get(f"/p?{asked}")
        assert (reply.x_cache, reply.body) == ("PASS", owed(f"/p?{asked}"))
        assert (await proxy.get("/p")).body == owed("/p")


@requires("Attack: parameter cloaking", "where nothing is shared, the query goes as it came")
@pytest.mark.parametrize("asked", [*(query for query, _ in IGNORED if query), *KEPT])
async def test_passed(keyed: Scene, asked: str) -> None:
    reply = await keyed.ask(get(target=f"/pass/target?{asked}".encode()))
    assert reply.body == owed(f"/pass/target?{asked}")
