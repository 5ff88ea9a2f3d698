"""A Django site behind ISR: anonymous pages are kept, whoever logs in gets his own, forms work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.apps import PASSWORD, READER, DjangoSite
from tests.e2e.processes import eventually
from tests.e2e.proxy import Proxy, serving
from tests.e2e.visitor import Answer, Visitor, is_no_hit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# `Vary: Cookie` is on every page that shows who reads. What it means is said by `bypass` here: a session,
# and the cookie of a message to be shown once. All other cookies (csrftoken, analytics) change nothing.
ROUTES = """
defaults:
  bypass: {cookies: [sessionid, messages]}
  ignore_origin: [vary]
routes:
  - match: /articles/brief-*/
    revalidate: 2s
    status_ttl: {404: 1s}
  - match: /**
    revalidate: 10m
"""


@pytest.fixture(scope="module")
def proxy(django_site: DjangoSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with serving(ROUTES, django_site.url, tmp_path_factory.mktemp("site")) as proxy:
        yield proxy


@pytest.fixture
def author(proxy: Proxy) -> Visitor:
    """A visitor who has logged in."""
    visitor = proxy.visitor()
    answer = log_in(visitor)
    assert answer.status == 302, answer.text
    return visitor


def log_in(visitor: Visitor) -> Answer:
    return submit(visitor, "/login/", username=READER, password=PASSWORD)


def submit(visitor: Visitor, path: str, **values: str) -> Answer:
    """Open a page, fill in its form and send it with its token, as a browser does."""
    token = visitor.get(path).form_field("csrfmiddlewaretoken")
    return visitor.post(path, {"csrfmiddlewaretoken": token, **values})


def publish(author: Visitor, slug: str, text: str) -> None:
    assert submit(author, f"/articles/{slug}/write/", text=text).status == 302


def test_an_anonymous_page_is_a_miss_then_a_hit(proxy: Proxy, author: Visitor, slug: str) -> None:
    publish(author, slug, "one")
    first, kept = proxy.get(f"/articles/{slug}/"), proxy.kept(f"/articles/{slug}/")
    assert first.x_cache == "MISS"
    assert kept.shown("rendered") == first.shown("rendered")


def test_other_cookies_than_the_sessions_change_nothing(proxy: Proxy, author: Visitor, slug: str) -> None:
    publish(author, slug, "one")
    kept = proxy.kept(f"/articles/{slug}/")
    measured = proxy.visitor()
    measured.cookies["_ga"] = "GA1.1.1"
    measured.get("/contact/")
    assert "csrftoken" in measured.cookies
    assert measured.get(f"/articles/{slug}/").body == kept.body


def test_a_changed_article_is_stale_then_new(proxy: Proxy, author: Visitor, slug: str) -> None:
    path = f"/articles/brief-{slug}/"
    publish(author, f"brief-{slug}", "one")
    proxy.kept(path)
    publish(author, f"brief-{slug}", "two")
    stale = eventually(lambda: proxy.get(path), is_no_hit)
    assert (stale.x_cache, stale.shown("text")) == ("STALE", "one")
    eventually(lambda: proxy.get(path), lambda answer: answer.shown("text") == "two")


def test_an_article_published_after_its_404_is_seen(proxy: Proxy, author: Visitor, slug: str) -> None:
    path = f"/articles/brief-{slug}/"
    assert proxy.kept(path).status == 404
    publish(author, f"brief-{slug}", "one")
    eventually(lambda: proxy.get(path), lambda answer: answer.shown("text") == "one")


def test_an_anonymous_visitor_sends_a_form(proxy: Proxy) -> None:
    visitor = proxy.visitor()
    before = int(visitor.get("/contact/").shown("letters") or 0)
    assert submit(visitor, "/contact/", text="hello").status == 302
    after = visitor.get("/contact/")
    assert after.shown("message") == "Thank you for: hello"
    assert int(after.shown("letters") or 0) == before + 1


def test_law_4_each_visitor_has_a_form_token_of_his_own(proxy: Proxy) -> None:
    visitors = [proxy.visitor() for _ in range(5)]
    pages = [visitor.get("/contact/") for visitor in visitors]
    assert len({visitor.cookies["csrftoken"] for visitor in visitors}) == 5
    assert len({page.form_field("csrfmiddlewaretoken") for page in pages}) == 5


def test_a_form_without_its_token_is_refused_by_the_site(proxy: Proxy) -> None:
    answer = proxy.visitor().post("/contact/", {"text": "forged"})
    assert (answer.status, answer.x_cache) == (403, "PASS")


def test_a_wrong_password_is_the_sites_own_answer(proxy: Proxy) -> None:
    answer = submit(proxy.visitor(), "/login/", username=READER, password="wrong")
    assert (answer.status, answer.x_cache) == (200, "PASS")
    assert "correct username and password" in answer.text


def test_a_logged_in_visitor_gets_pages_of_his_own(proxy: Proxy, author: Visitor, slug: str) -> None:
    publish(author, slug, "one")
    path = f"/articles/{slug}/"
    anonymous, own, again = proxy.kept(path), author.get(path), proxy.get(path)
    assert (own.x_cache, own.shown("reader")) == ("PASS", READER)
    assert [answer.shown("reader") for answer in (anonymous, again)] == ["nobody", "nobody"]
    assert (again.x_cache, again.body) == ("HIT", anonymous.body)


def test_a_session_counts_through_the_proxy(proxy: Proxy, author: Visitor) -> None:
    assert [author.get("/me/").shown("visits") for _ in range(3)] == ["1", "2", "3"]


def test_a_page_for_members_sends_others_to_the_login(proxy: Proxy, author: Visitor) -> None:
    assert author.get("/me/").status == 200
    answers = [proxy.get("/me/") for _ in range(2)]
    assert [answer.status for answer in answers] == [302, 302]
    assert answers[1].headers["location"] == "/login/?next=/me/"


def test_who_logs_out_gets_the_kept_page_again(proxy: Proxy, author: Visitor, slug: str) -> None:
    publish(author, slug, "one")
    path = f"/articles/{slug}/"
    kept = proxy.kept(path)
    token = author.get(path).form_field("csrfmiddlewaretoken")
    assert author.post("/logout/", {"csrfmiddlewaretoken": token}).status == 302
    back = author.get(path)
    assert (back.shown("reader"), back.x_cache) == ("nobody", "HIT")
    assert back.shown("rendered") == kept.shown("rendered")


def test_law_4_no_cookie_is_ever_stored(proxy: Proxy, author: Visitor, slug: str) -> None:
    publish(author, slug, "one")
    for visitor in (author, proxy.visitor()):
        for path in ("/", f"/articles/{slug}/", "/contact/", "/login/", "/me/"):
            visitor.get(path)
    stored = proxy.stored_bytes()
    assert b"text=one" in stored
    secrets = [*author.cookies.values(), f"reader={READER}", "csrfmiddlewaretoken"]
    assert [secret for secret in secrets if secret.encode() in stored] == []
    assert b"set-cookie" not in stored.lower()


def test_law_9_with_no_word_about_cookies_whoever_brings_one_passes(
    django_site: DjangoSite, tmp_path: Path
) -> None:
    with serving("routes: [{match: /**, revalidate: 10m}]", django_site.url, tmp_path) as proxy:
        reader = proxy.visitor()
        assert log_in(reader).status == 302
        assert (proxy.kept("/").shown("reader"), reader.get("/").shown("reader")) == ("nobody", READER)
        assert "detail=vary-cookie" in reader.get("/").cache_status
