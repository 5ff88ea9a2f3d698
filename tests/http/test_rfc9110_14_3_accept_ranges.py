"""RFC 9110 §14.3: pages of which parts can be had say so."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.ranging_origin import FRESH
from tests.scripted_origin import page


@requires("RFC 9110 §14.3", "a page says that it takes byte ranges, when it comes and from the store")
async def test_said(site: Site) -> None:
    site.on("/p", page("page", FRESH))
    for _ in range(2):
        assert (await site.get("/p")).headers["accept-ranges"] == "bytes"


@requires("RFC 9110 §14.3", "what the origin says of its ranges is left")
async def test_said_by_the_origin(site: Site) -> None:
    site.on("/p", page("page", {**FRESH, "Accept-Ranges": "none"}))
    for _ in range(2):
        assert (await site.get("/p")).headers["accept-ranges"] == "none"


@requires("RFC 9110 §14.3", "an answer that is no page says nothing of ranges")
@pytest.mark.parametrize("status", [404, 301])
async def test_not_said(site: Site, status: int) -> None:
    site.on("/p", page("page", FRESH, status))
    for _ in range(2):
        assert "accept-ranges" not in (await site.get("/p")).headers
