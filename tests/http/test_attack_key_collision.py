"""Attack: key collision. Two different requests are made to have one key.

FIELD.md section 4.8: fields are length-prefixed under the digest, and the full key is stored in the entry and
compared on read.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.key import Key, Variant
from tests.harness import config, running
from tests.http.attacking import CACHED, Gullible, Scene, get, owed
from tests.http.requirements import requires
from tests.store.conftest import file_of

TEXTS = st.text(alphabet="ab:/?&=;-1\x00", max_size=6)
DIMENSIONS = st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3).map(tuple)
KEYS = st.builds(Key, TEXTS, TEXTS, TEXTS, st.none() | TEXTS, DIMENSIONS)


@requires("Attack: key collision", "different keys and variants have different bytes under the digest")
@given(KEYS, KEYS, DIMENSIONS, DIMENSIONS)
def test_digests(
    one: Key,
    other: Key,
    first: tuple[tuple[str, str | None], ...],
    second: tuple[tuple[str, str | None], ...],
) -> None:
    assert (one.digest == other.digest) == (one == other)
    assert (Variant(first).digest == Variant(second).digest) == (first == second)


NEIGHBOURS = [
    ("/target?a=1&b", "/target?a=1%26b"),
    ("/target?a=1&b=2", "/target?a=1&b=2&"),
    ("/target?ab=1", "/target?a=b1"),
    ("/target?", "/target"),
    ("/target?a", "/target?a="),
    ("/target/a?b", "/target?/a?b"),
    ("/target3:abc", "/target?3:abc"),
    ("/target-", "/target?-"),
    ("/targetsite.example", "/target?site.example"),
]


@requires("Attack: key collision", "requests whose parts, put together, spell the same are different pages")
@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
@pytest.mark.parametrize("way", CACHED)
async def test_neighbours(scene: Scene, way: str, one: str, other: str) -> None:
    for path in (one, other, one, other):
        reply = await scene.ask(get(target=f"/{way}{path}".encode()))
        await scene.proxy.settled()
        assert reply.body == owed(f"/{way}{path}".rstrip("?&"))


@requires("Attack: key collision", "a header's value cannot be made to look like another header's")
async def test_dimensions(tmp_path: Path) -> None:
    routes = "- {match: /**, revalidate: 60s, key: {headers: [x-one, x-two], cookies: [c]}}"
    ways = [
        {"X-One": "a", "X-Two": "b"},
        {"X-One": "ab"},
        {"X-Two": "ab"},
        {"X-One": "a5:x-two1:b"},
        {"X-One": "a", "Cookie": "c=b"},
        {"X-One": ""},
        {},
        {"Cookie": "c="},
        {"Cookie": "c=-"},
    ]
    async with Gullible() as origin, running(config(origin.url, tmp_path / "store", routes)) as proxy:
        for _ in range(2):
            for headers in ways:
                await proxy.get("/p", headers)
                await proxy.settled()
        assert len(origin.requests) == len(ways)


@requires(
    "Attack: key collision", "the whole key is compared when an entry is read: an equal digest is not enough"
)
async def test_full_key_is_compared(tmp_path: Path) -> None:
    """As no two keys with one digest are known, a page is put where another key's would lie."""
    routes = "- {match: /**, revalidate: 60s}"
    one, two = (Key("http", "site.example", path) for path in ("/one", "/two"))
    async with Gullible() as origin:
        text = config(origin.url, tmp_path / "store", routes)
        async with running(text) as proxy:
            await proxy.get("/one")
            await proxy.settled()
            settings = proxy.worker.settings.store
        file_of(settings, two).parent.mkdir(parents=True, exist_ok=True)
        file_of(settings, two).write_bytes(file_of(settings, one).read_bytes())
        async with running(text) as proxy:
            assert (await proxy.get("/one")).x_cache == "HIT"
            reply = await proxy.get("/two")
            assert (reply.x_cache, reply.body) == ("MISS", owed("/two"))
