"""RFC 9110 §13.1.1 and §13.1.4: conditions that only the origin can evaluate."""

from __future__ import annotations

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import ScriptedOrigin, page

FRESH = {"Cache-Control": "max-age=60", "ETag": '"abc"'}
CONDITIONS = [("If-Match", '"x"'), ("If-Unmodified-Since", format_date(START - 99))]


@requires(
    "RFC 9110 §13.1.1", "If-Match and If-Unmodified-Since reach the origin where nothing fresh is stored"
)
@pytest.mark.parametrize(("name", "value"), CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_forwarded(site: Site, name: str, value: str, method: str) -> None:
    site.on("/p", page("1", FRESH), page("changed", {}, 412))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p", {name: value}, method=method)).status == 412
    assert (site.last.method, site.last.header(name.lower())) == (method, value)


@requires(
    "RFC 9110 §13.1.1", "the answer to such a condition is nobody else's, and leaves what is stored alone"
)
@pytest.mark.parametrize(("name", "value"), CONDITIONS)
async def test_not_stored(site: Site, name: str, value: str) -> None:
    site.on("/p", page("changed", FRESH, 412), page("1", FRESH))
    await site.get("/p", {name: value})
    assert (await site.get("/p")).text == "1"


@requires("RFC 9110 §13.1.1", "an ISR page is asked for without any condition of a visitor's")
async def test_isr(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("1"))
    async with start("- {match: /**, revalidate: 60s}") as proxy:
        assert (await proxy.get("/p", {"If-Match": '"x"'})).status == 200
        assert origin.requests[-1].header("if-match") is None
