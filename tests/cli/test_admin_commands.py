"""Commands to a running proxy: what each asks of the admin API, what it shows, and how it ends."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.run import progress
from isr_proxy.run.admin_client import AdminClient, Done, Refused, Unreachable
from isr_proxy.run.tables import size_words, value_words
from tests.cli.standin import TOKEN, Admin, Run, program, unused_port

# --- a running proxy ---


def test_purge_sends_every_selector(run: Run, admin: Admin) -> None:
    admin.answers = [(200, {"sequence": 7, "matched": 3})]
    done = run(
        "purge", "/a", "/b?x=1", "--prefix", "/blog/", "--tag", "t", "--host", "h.org", "--soft", "--dry-run"
    )
    assert done.exit_code == 0
    assert (admin.asked[0].method, admin.asked[0].path) == ("POST", "/v1/purge")
    assert admin.asked[0].data == {
        "paths": ["/a", "/b?x=1"],
        "prefixes": ["/blog/"],
        "tags": ["t"],
        "hosts": ["h.org"],
        "all": False,
        "soft": True,
        "dry_run": True,
    }
    assert [line.split() for line in done.stdout.splitlines()] == [["sequence", "7"], ["matched", "3"]]


def test_purge_all(run: Run, admin: Admin) -> None:
    assert run("purge", "--all").exit_code == 0
    assert admin.asked[0].data["all"] is True


def test_revalidate_waits_when_told(run: Run, admin: Admin) -> None:
    results = [{"url": "http://a/x", "result": "regenerated", "reason": "stored"}]
    admin.answers = [(200, {"sequence": 1, "matched": 1, "results": results})]
    done = run("revalidate", "/x", "--wait")
    assert (admin.asked[0].path, admin.asked[0].data["wait"]) == ("/v1/revalidate", True)
    assert ["http://a/x", "regenerated", "stored"] in [line.split() for line in done.stdout.splitlines()]


def test_a_page_that_cannot_be_regenerated_ends_with_1(run: Run, admin: Admin) -> None:
    results = [{"url": "http://a/x", "result": "failed", "reason": "server-error"}]
    admin.answers = [(200, {"sequence": 1, "matched": 1, "job": "j", "results": results})]
    done = run("revalidate", "/x", "--wait")
    assert (done.exit_code, done.stderr) == (1, "failed pages: 1\nhttp://a/x: server-error\n")


def test_a_dry_run_of_revalidate_marks_nothing(run: Run, admin: Admin) -> None:
    run("revalidate", "/x", "--dry-run")
    assert admin.asked[0].path == "/v1/purge"
    assert (admin.asked[0].data["soft"], admin.asked[0].data["dry_run"]) == (True, True)


def test_a_message_that_repeats_its_problems_is_told_once(run: Run, admin: Admin) -> None:
    admin.answers = [(422, {"error": "a: wrong; b: wrong", "errors": ["a: wrong", "b: wrong"]})]
    assert run("purge", "/a").stderr == "a: wrong; b: wrong\n"


def test_a_listing_that_may_lack_pages_says_so(run: Run, admin: Admin) -> None:
    admin.answers = [(200, {"entries": [], "cursor": None, "complete": False})]
    assert "catalog is being rebuilt" in run("ls").stdout


def test_json_is_the_servers_own(run: Run, admin: Admin) -> None:
    answer = {"sequence": 7, "matched": 3, "more": {"é": [1, None]}}
    admin.answers = [(200, answer)]
    assert json.loads(run("purge", "/a", "--json").stdout) == answer


def test_the_token_goes_along(run: Run, admin: Admin) -> None:
    run("status", "--token", TOKEN)
    run("status")
    assert [asked.authorization for asked in admin.asked] == [f"Bearer {TOKEN}", None]


def test_ls_asks_and_shows_a_row_for_each_entry(run: Run, admin: Admin) -> None:
    entry = {"url": "http://a/x", "state": "fresh", "size_bytes": 2048, "tags": ["t", "u"], "fetched_at": 0}
    admin.answers = [(200, {"entries": [entry], "cursor": "c2"})]
    done = run("ls", "--prefix", "/x", "--tag", "t", "--state", "fresh", "--limit", "5", "--cursor", "c1")
    assert admin.asked[0].query == [
        ("prefix", "/x"),
        ("tag", "t"),
        ("state", "fresh"),
        ("limit", "5"),
        ("cursor", "c1"),
    ]
    assert "http://a/x" in done.stdout
    assert "2.0 KiB" in done.stdout
    assert "more: --cursor c2" in done.stdout


def test_show_and_explain_name_the_url_and_headers(run: Run, admin: Admin) -> None:
    run("show", "http://a/x?y=1")
    run("explain", "/x", "-H", "Cookie: a=b; c", "-H", "Accept:*/*")
    assert [asked.path for asked in admin.asked] == ["/v1/entry", "/v1/explain"]
    assert admin.asked[0].query == [("url", "http://a/x?y=1")]
    assert admin.asked[1].query == [("url", "/x"), ("header", "Cookie:a=b; c"), ("header", "Accept:*/*")]


def test_nested_answers_are_all_shown(run: Run, admin: Admin) -> None:
    admin.answers = [
        (200, {"version": "1", "origins": [{"url": "http://o", "state": "up"}], "store": {"entries": 4}})
    ]
    words = run("status").stdout.split()
    assert words == ["version", "1", "origins", "url", "state", "http://o", "up", "store", "entries", "4"]


def test_refused_ends_with_1_and_says_why(run: Run, admin: Admin) -> None:
    admin.answers = [(401, {"error": "the token is wrong"})]
    done = run("status")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "the token is wrong\n")


def test_refused_with_json_prints_that_too(run: Run, admin: Admin) -> None:
    admin.answers = [(422, {"error": "nothing selected"})]
    done = run("purge", "/a", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"error": "nothing selected"})


def test_a_refused_reload_lists_every_problem(run: Run, admin: Admin) -> None:
    admin.answers = [(422, {"error": "config not usable", "errors": ["a.yaml:1:1: x", "a.yaml:2:1: y"]})]
    done = run("reload")
    assert (done.exit_code, admin.asked[0].path) == (1, "/v1/reload")
    assert done.stderr.splitlines() == ["config not usable", "a.yaml:1:1: x", "a.yaml:2:1: y"]


def test_nobody_there_ends_with_3() -> None:
    done = program("status", "--admin", f"http://127.0.0.1:{unused_port()}")
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot reach http://127.0.0.1:" in done.stderr


def test_somebody_else_there_ends_with_3(run: Run, admin: Admin) -> None:
    admin.answers = [(200, "<html>hello</html>")]
    done = run("status")
    assert done.exit_code == 3
    assert "is this the admin address?" in done.stderr


def test_proxies_of_the_environment_are_not_asked(admin: Admin) -> None:
    proxy = f"http://127.0.0.1:{unused_port()}"
    done = program(
        "status", "--json", ISR_ADMIN_URL=admin.url, http_proxy=proxy, HTTP_PROXY=proxy, no_proxy=""
    )
    assert (done.returncode, done.stdout) == (0, "{}\n")


def test_what_a_server_says_cannot_move_the_cursor(run: Run, admin: Admin) -> None:
    admin.answers = [(200, {"url": "/a\x1b[2J[red]", "k\x1b": 1}), (400, {"error": "no\x1b[2J"})]
    shown, refused = run("show", "/a"), run("show", "/a")
    assert "\x1b" not in shown.stdout + refused.stderr
    assert "/a\\x1b[2J[red]" in shown.stdout


# --- prerender ---


def test_prerender_starts_a_job(run: Run, admin: Admin) -> None:
    admin.answers = [(202, {"id": "j1", "state": "running"})]
    done = run("prerender", "/a", "--sitemap", "/sitemap.xml")
    assert admin.asked[0].data == {"paths": ["/a"], "sitemap": "/sitemap.xml"}
    assert (done.exit_code, "j1" in done.stdout, len(admin.asked)) == (0, True, 1)


def job(state: str, done: int, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"id": "j1", "state": state, "total": 2, "listed": True, "done": done, "failed": 0, **more}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause between two questions, none of them slept."""
    taken: list[float] = []
    monkeypatch.setattr(progress, "_pause", taken.append)
    return taken


def test_prerender_follows_the_job_to_its_end(run: Run, admin: Admin, pauses: list[float]) -> None:
    admin.answers = [job("running", 0), job("running", 1), job("done", 2)]
    done = run("prerender", "/a", "/b", "--wait", "--json")
    assert (done.exit_code, json.loads(done.stdout)["done"]) == (0, 2)
    assert [asked.path for asked in admin.asked] == ["/v1/prerender", "/v1/jobs/j1", "/v1/jobs/j1"]
    assert len(pauses) == 2


@pytest.mark.usefixtures("pauses")
def test_failed_pages_are_listed_and_end_with_1(run: Run, admin: Admin) -> None:
    failure = {"url": "http://a/b", "result": "failed", "reason": "server-error"}
    admin.answers = [job("running", 0), job("done", 2, failed=1, failures=[failure])]
    done = run("prerender", "/a", "/b", "--wait")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == ["failed pages: 1", "http://a/b: server-error"]


@pytest.mark.usefixtures("pauses")
def test_a_job_that_could_not_go_on_ends_with_1(run: Run, admin: Admin) -> None:
    admin.answers = [job("running", 0), job("failed", 0, error="the sitemap answered 500")]
    done = run("prerender", "--sitemap", "/s.xml", "--wait")
    assert (done.exit_code, done.stderr) == (1, "the job failed: the sitemap answered 500\n")


@pytest.mark.usefixtures("pauses")
def test_a_proxy_that_goes_away_meanwhile_ends_with_3(run: Run, admin: Admin) -> None:
    admin.answers = [job("running", 0), (200, "gone")]
    assert run("prerender", "/a", "--wait").exit_code == 3


# --- the client ---


def test_the_client_speaks_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_answer_once, args=(listening, b"HTTP/1.1 200 OK\r\n\r\n[1]"))
        thread.start()
        assert AdminClient(f"unix:{path}", None, 5).get("/v1/status") == Done([1])
        thread.join()


def _answer_once(listening: socket.socket, answer: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


def test_a_redirect_is_not_followed_with_the_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"
        thread = threading.Thread(target=_answer_once, args=(listening, answer))
        thread.start()
        reply = AdminClient(f"http://127.0.0.1:{listening.getsockname()[1]}", TOKEN, 5).get("/")
        thread.join()
    assert reply == Refused(302, "302 Found", (), None)


def test_a_silent_server_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reply = AdminClient(f"http://127.0.0.1:{listening.getsockname()[1]}", None, 0.05).get("/")
    assert isinstance(reply, Unreachable)
    assert "within 0.05 s" in reply.detail


# --- words ---


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("hit_ratio", 0.5, "50.0%"),
        ("retry_at", 0, "never"),
        ("tags", [], "-"),
        ("is_up", True, "yes"),
        ("counts", {"a_bytes": 1536}, "a_bytes: 1.5 KiB"),
        ("status", 200, "200"),
        ("since", 3.20512288, "3.205"),
        ("vary", {}, "-"),
    ],
)
def test_values_read_as_their_names_say(name: str, value: Any, words: str) -> None:
    assert value_words(name, value) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (3 << 40, "3072.0 GiB")]
)
def test_sizes(size: int, words: str) -> None:
    assert size_words(size) == words
