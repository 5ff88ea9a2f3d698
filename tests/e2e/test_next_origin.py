"""Next.js 16 behind `revalidate: origin`: its own Cache-Control counts, for pages of both routers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.apps import NextApp
from tests.e2e.next_visits import COMPONENT, HTML, PLAIN_RSC, RSC_REQUESTS, RscRequest, script_of
from tests.e2e.processes import eventually
from tests.e2e.proxy import Proxy, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROUTES = """
routes:
  - match: /**
    revalidate: origin
    bypass: {cookies: [__prerender_bypass]}
"""
ROUTERS = pytest.mark.parametrize("folder", ["isr", "legacy"])


@pytest.fixture(scope="module")
def proxy(next_app: NextApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("origin")
    with serving(ROUTES, next_app.url, folder, admin_port=next_app.admin_port) as proxy:
        yield proxy


@ROUTERS
def test_a_page_is_a_miss_then_a_hit(proxy: Proxy, next_app: NextApp, slug: str, folder: str) -> None:
    next_app.write(slug, "one")
    first, kept = proxy.get(f"/{folder}/{slug}"), proxy.kept(f"/{folder}/{slug}")
    assert first.x_cache == "MISS"
    assert kept.body == first.body
    assert kept.shown("text") == "one"


def test_a_page_made_by_the_build_is_kept_too(proxy: Proxy) -> None:
    assert "Home" in proxy.kept("/").text


def test_built_scripts_are_immutable(proxy: Proxy) -> None:
    script = script_of(proxy.get("/"))
    first, kept = proxy.get(script), proxy.kept(script)
    assert (first.x_cache, kept.body) == ("MISS", first.body)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_public_file_is_validated_at_the_app(proxy: Proxy) -> None:
    first, second = proxy.get("/logo.svg"), proxy.get("/logo.svg")
    assert (first.status, second.status) == (200, 200)
    assert second.body == first.body
    assert second.headers["cache-control"] == "public, max-age=0"


def test_law_4_a_dynamic_page_is_each_visitors_own(proxy: Proxy) -> None:
    ada, bob = proxy.visitor(), proxy.visitor()
    ada.cookies["visitor"], bob.cookies["visitor"] = "ada", "bob"
    answers = [ada.get("/me"), bob.get("/me"), ada.get("/me"), proxy.get("/me")]
    assert [answer.shown("visitor") for answer in answers] == ["ada", "bob", "ada", "nobody"]
    assert {answer.x_cache for answer in answers} <= {"MISS", "PASS"}
    assert b"visitor=ada" not in proxy.stored_bytes()


@pytest.mark.parametrize("rsc", RSC_REQUESTS, ids=lambda rsc: rsc.name)
def test_html_and_component_of_one_url_are_never_mixed(
    proxy: Proxy, next_app: NextApp, slug: str, rsc: RscRequest
) -> None:
    next_app.write(slug, "one")
    url, visitor = rsc.url(f"/isr/{slug}"), proxy.visitor()
    types = [visitor.get(url, headers).content_type for headers in ({}, rsc.headers, {}, rsc.headers)]
    assert types == [HTML, COMPONENT, HTML, COMPONENT]
    assert proxy.kept(url).content_type == HTML
    assert proxy.kept(url, rsc.headers).content_type == COMPONENT


def test_a_component_that_came_first_is_not_shown_as_the_page(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    next_app.write(slug, "one")
    url, visitor = PLAIN_RSC.url(f"/isr/{slug}"), proxy.visitor()
    types = [visitor.get(url, headers).content_type for headers in (PLAIN_RSC.headers, {})]
    assert types == [COMPONENT, HTML]


def test_the_apps_redirect_of_a_component_request_is_not_shown_to_readers(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    next_app.write(slug, "one")
    assert proxy.visitor().get(f"/isr/{slug}", {"RSC": "1"}).status == 307
    assert [proxy.get(f"/isr/{slug}").status for _ in range(2)] == [200, 200]


@ROUTERS
def test_what_revalidates_in_the_app_is_new_after_a_purge(
    proxy: Proxy, next_app: NextApp, slug: str, folder: str
) -> None:
    path = f"/{folder}/{slug}"
    next_app.write(slug, "one")
    proxy.kept(path)
    next_app.write(slug, "two")
    assert proxy.get(path).shown("text") == "one"
    publish(proxy, "/api/publish" if folder == "isr" else "/api/republish", path)
    assert proxy.get(path).shown("text") == "two"


def test_a_purge_reaches_what_the_client_navigates_to(proxy: Proxy, next_app: NextApp, slug: str) -> None:
    path = f"/isr/{slug}"
    next_app.write(slug, "one")
    assert proxy.kept(PLAIN_RSC.url(path), PLAIN_RSC.headers).shown("text") == "one"
    next_app.write(slug, "two")
    publish(proxy, "/api/publish", path)
    assert PLAIN_RSC.ask(proxy.visitor(), path).shown("text") == "two"


def test_a_revalidate_sent_after_the_handler_brings_the_new_page(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    path = f"/isr/{slug}"
    next_app.write(slug, "one")
    proxy.kept(path)
    next_app.write(slug, "two")
    publish(proxy, "/api/publish", path, call="revalidate")
    eventually(lambda: proxy.get(path), lambda answer: answer.shown("text") == "two")


def test_a_draft_visitor_sees_the_draft_and_nobody_else_does(
    proxy: Proxy, next_app: NextApp, slug: str
) -> None:
    path, editor = f"/isr/{slug}", proxy.visitor()
    next_app.write(slug, "one")
    proxy.kept(path)
    editor.get("/api/draft")
    draft, public = editor.get(path), proxy.get(path)
    assert (draft.x_cache, draft.shown("preview")) == ("PASS", "on")
    assert (public.x_cache, public.shown("preview")) == ("HIT", "off")
    assert editor.cookies["__prerender_bypass"].encode() not in proxy.stored_bytes()


def publish(proxy: Proxy, api: str, path: str, *, call: str = "purge") -> None:
    """Tell the app, through the proxy, that an article has changed."""
    body = f'{{"path": "{path}", "call": "{call}"}}'.encode()
    answer = proxy.visitor().ask("POST", api, {"Content-Type": "application/json"}, body)
    assert answer.status in (200, 202), answer.text
    assert answer.x_cache == "PASS"
