"""RFC 9111 §4.2.1: how long a response is fresh, and which of several sources says so."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires


@requires("RFC 9111 §4.2.1", "a response is reused until its max-age is over")
async def test_max_age(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=60"}, {"Cache-Control": "max-age=60"})
    assert (await site.get("/p")).text == "1"
    site.clock.advance(59)
    assert (await site.get("/p")).text == "1"
    site.clock.advance(2)
    assert (await site.get("/p")).text == "2"


@requires("RFC 9111 §4.2.1", "s-maxage counts before max-age, and max-age before Expires")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Cache-Control": "max-age=1, s-maxage=60"}, 60),
        ({"Cache-Control": "max-age=60, s-maxage=1"}, 1),
        ({"Cache-Control": "max-age=60", "Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, 60),
        ({"Cache-Control": "max-age=1", "Expires": "Fri, 01 Jan 2100 00:00:00 GMT"}, 1),
    ],
)
async def test_precedence(site: Site, headers: dict[str, str], seconds: int) -> None:
    site.says("/p", headers)
    await site.get("/p")
    site.clock.advance(seconds - 0.5)
    await site.get("/p")
    assert site.hits("/p") == 1
    site.clock.advance(1)
    await site.get("/p")
    assert site.hits("/p") == 2
