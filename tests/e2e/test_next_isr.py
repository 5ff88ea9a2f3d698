"""Next.js 16 behind `revalidate: 2s`: the proxy brings ISR to pages that the app renders every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.apps import NextApp
from tests.e2e.next_visits import COMPONENT, HTML, PLAIN_RSC, RSC_REQUESTS, RscRequest, script_of
from tests.e2e.processes import eventually, free_port
from tests.e2e.proxy import Proxy, serving
from tests.e2e.visitor import is_no_hit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROUTES = """
defaults:
  bypass: {cookies: [__prerender_bypass]}
routes:
  - match: /_next/static/**
    revalidate: never
    client_cache_control: public, max-age=31536000, immutable
  - match: /news/**
    revalidate: 2s
    ignore_origin: [no-store, private]
  - match: /api/**
    revalidate: 0
  - match: /**
    revalidate: 2s
"""


@pytest.fixture(scope="module")
def proxy(next_app: NextApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("isr")
    with serving(ROUTES, next_app.url, folder, admin_port=next_app.admin_port) as proxy:
        yield proxy


def test_a_page_is_a_miss_a_hit_then_stale_then_new(proxy: Proxy, next_app: NextApp, slug: str) -> None:
    path = f"/news/{slug}"
    next_app.write(slug, "one")
    assert proxy.get(path).x_cache == "MISS"
    assert proxy.kept(path).shown("text") == "one"
    next_app.write(slug, "two")
    stale = eventually(lambda: proxy.get(path), is_no_hit)
    assert (stale.x_cache, stale.shown("text")) == ("STALE", "one")
    new = eventually(lambda: proxy.get(path), lambda answer: answer.shown("text") == "two")
    assert new.x_cache == "HIT"


def test_a_page_of_the_pages_router_goes_the_same_way(proxy: Proxy, next_app: NextApp, slug: str) -> None:
    path = f"/legacy/{slug}"
    next_app.write(slug, "one")
    assert proxy.get(path).x_cache == "MISS"
    assert proxy.kept(path).shown("text") == "one"
    stale = eventually(lambda: proxy.get(path), is_no_hit)
    assert (stale.x_cache, stale.shown("text")) == ("STALE", "one")


def test_an_article_published_after_its_404_is_seen(proxy: Proxy, next_app: NextApp, slug: str) -> None:
    path = f"/news/{slug}"
    assert proxy.get(path).status == 404
    next_app.write(slug, "one")
    assert proxy.admin_post("/v1/purge", {"paths": [path]}).status == 200
    assert proxy.get(path).shown("text") == "one"


def test_built_scripts_are_kept_for_ever(proxy: Proxy) -> None:
    script = script_of(proxy.get("/"))
    first, kept = proxy.get(script), proxy.kept(script)
    assert (first.x_cache, kept.body) == ("MISS", first.body)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_law_4_a_dynamic_page_is_each_visitors_own(proxy: Proxy) -> None:
    ada, bob = proxy.visitor(), proxy.visitor()
    ada.cookies["visitor"], bob.cookies["visitor"] = "ada", "bob"
    answers = [ada.get("/me"), bob.get("/me"), ada.get("/me"), proxy.get("/me")]
    assert [answer.shown("visitor") for answer in answers] == ["ada", "bob", "ada", "nobody"]
    assert b"visitor=ada" not in proxy.stored_bytes()


@pytest.mark.parametrize("rsc", RSC_REQUESTS, ids=lambda rsc: rsc.name)
def test_html_and_component_of_one_url_are_never_mixed(
    proxy: Proxy, next_app: NextApp, slug: str, rsc: RscRequest
) -> None:
    next_app.write(slug, "one")
    url, visitor = rsc.url(f"/isr/{slug}"), proxy.visitor()
    types = [visitor.get(url, headers).content_type for headers in (rsc.headers, {}, rsc.headers, {})]
    assert types == [COMPONENT, HTML, COMPONENT, HTML]
    assert proxy.kept(url, rsc.headers).content_type == COMPONENT
    stale = eventually(lambda: visitor.get(url, rsc.headers), is_no_hit)
    assert (stale.x_cache, stale.content_type) == ("STALE", COMPONENT)
    assert proxy.kept(url, rsc.headers).content_type == COMPONENT
    assert proxy.kept(url).content_type == HTML


def test_law_4_the_apps_redirect_of_a_component_request_is_not_shown_to_readers(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    """Next.js answers RSC without `_rsc` with a 307 that has no Vary."""
    next_app.write(slug, "one")
    path = f"/isr/{slug}"
    assert proxy.kept(path).status == 200
    assert proxy.visitor().get(path, PLAIN_RSC.headers).status == 307
    assert proxy.kept(path, PLAIN_RSC.headers).status == 307
    assert proxy.get(path).status == 200


def test_on_demand_revalidation_by_the_app_is_seen_at_the_next_request(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    path = f"/legacy/{slug}"
    next_app.write(slug, "one")
    proxy.kept(path)
    next_app.write(slug, "two")
    body = f'{{"path": "{path}"}}'.encode()
    told = proxy.visitor().ask("POST", "/api/republish", {"Content-Type": "application/json"}, body)
    assert told.status == 200, told.text
    assert proxy.get(path).shown("text") == "two"


def test_a_draft_visitor_passes(proxy: Proxy, next_app: NextApp, slug: str) -> None:
    path, editor = f"/isr/{slug}", proxy.visitor()
    next_app.write(slug, "one")
    editor.get("/api/draft")
    draft, public = editor.get(path), proxy.get(path)
    assert (draft.x_cache, draft.shown("preview")) == ("PASS", "on")
    assert "detail=bypass-cookie" in draft.cache_status
    assert (public.x_cache, public.shown("preview")) == ("MISS", "off")


def test_law_1_pages_outlive_the_app(tmp_path: Path, next_app: NextApp) -> None:
    app = NextApp.start(tmp_path, admin_port=free_port())
    try:
        with serving(ROUTES, app.url, tmp_path / "proxy") as proxy:
            outlives(proxy, app)
    finally:
        app.stop()


def outlives(proxy: Proxy, app: NextApp) -> None:
    """Let the app die and come back; readers see a page all the time."""
    app.write("kept", "one")
    proxy.kept("/news/kept")
    app.kill()
    stale = eventually(lambda: proxy.get("/news/kept"), is_no_hit)
    again = proxy.get("/news/kept")
    assert [answer.x_cache for answer in (stale, again)] == ["STALE", "STALE"]
    assert [answer.shown("text") for answer in (stale, again)] == ["one", "one"]
    assert (proxy.get("/news/never").status, proxy.get("/news/never").x_cache) == (502, "ERROR")
    app.write("kept", "two")
    app.restart()
    eventually(lambda: proxy.get("/news/kept"), lambda answer: answer.shown("text") == "two", within=30)
