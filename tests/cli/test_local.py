"""Commands that need no running proxy: check, routes, schema, serve; and usage errors of all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isr_proxy import __version__
from isr_proxy.run.routes_report import duration_words
from tests.cli.standin import Admin, Run, program

BAD = 'origin: {ulr: "http://localhost:3000"}\nroutes:\n  - {match: /a, revalidate: 90x}\n'


# --- this machine ---


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"isr-proxy {__version__}\n"


def test_check_of_a_good_file(run: Run, config: Path) -> None:
    done = run("check", str(config))
    assert (done.exit_code, done.stdout) == (0, "OK: 3 routes\n")


def test_check_tells_every_problem_on_a_line_of_stderr(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    done = program("check", str(file))
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2)
    assert lines[0].startswith(f"{file}:1:10: origin.ulr: ")
    assert lines[1].startswith(f"{file}:3:29: routes[0].revalidate: ")


def test_check_of_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    done = run("check", str(tmp_path / "none.yaml"))
    assert done.exit_code == 2
    assert "none.yaml:1:1: cannot be read" in done.stderr


def test_routes_shows_the_table(run: Run, config: Path) -> None:
    lines = run("routes", str(config)).stdout.splitlines()
    assert lines[0].split()[:4] == ["#", "match", "host", "revalidate"]
    assert lines[1].split()[:4] == ["1", "/blog/{slug}", "any", "1m30s"]
    assert lines[2].split()[3:5] == ["0", "(pass)"]


def _routes(run: Run, config: Path, url: str) -> dict[str, Any]:
    (row,) = json.loads(run("routes", str(config), url, "--json").stdout)
    found: dict[str, Any] = row
    return found


def test_routes_tells_the_key_of_a_url_and_why(run: Run, config: Path) -> None:
    row = _routes(run, config, "https://Example.org/blog/a?utm_source=x&page=2#top")
    assert row["key"] == "https://example.org/blog/a?page=2"
    assert (row["action"], row["number"], row["tags"]) == ("look-up", 1, ["post:a"])
    assert "slug = a" in row["why"]
    assert "not in the key: utm_source" in row["why"]


@pytest.mark.parametrize(
    ("url", "action", "why"),
    [
        ("/api/x", "pass", "route-pass: "),
        ("/a%2Fb", "pass", "encoded-path: "),
        ("/../etc", "refuse", "400 bad-target: the path has a dot segment"),
        ("http://no host/x", "refuse", "400 bad-request: Host"),
    ],
)
def test_routes_tells_why_a_url_is_not_looked_up(
    run: Run, config: Path, url: str, action: str, why: str
) -> None:
    row = _routes(run, config, url)
    assert row["action"] == action
    assert row["why"].startswith(why)


def test_routes_of_an_unknown_host(run: Run, config: Path) -> None:
    config.write_text("hosts: [example.org]\n" + config.read_text())
    assert _routes(run, config, "http://other.org/")["why"].startswith("421 unknown-host: ")
    assert _routes(run, config, "/")["key"] == "http://example.org/"


def test_schema_is_json(run: Run) -> None:
    assert "$schema" in json.loads(run("schema").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("serve", "--config", "a", "--origin", "http://a"),
        ("serve", "--config", "a", "--admin-listen", "127.0.0.1:1"),
        ("serve", "--origin", "nonsense"),
        ("serve", "--origin", "http://a", "--listen", "nonsense"),
        ("purge",),
        ("prerender",),
        ("explain", "/", "-H", "no colon"),
        ("status", "--admin", "nonsense"),
        ("status", "--token", "two\nlines"),
        ("ls", "--limit", "0"),
        ("unheard-of",),
    ],
)
def test_usage_errors_end_with_2_and_ask_nothing(run: Run, admin: Admin, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
    assert admin.asked == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (0.5, "500ms"), (90, "1m30s"), (604800, "7d"), (float("inf"), "forever")],
)
def test_durations_read_as_the_config_writes_them(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


# --- serve ---


def test_serve_says_what_it_does_and_term_stops_it(tmp_path: Path) -> None:
    arguments = (
        "serve",
        "--origin",
        "http://127.0.0.1:9",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "isr_proxy", *arguments, "--store", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        serving = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert (serving["event"], serving["level"]) == ("serving", "info")
    assert serving["urls"][0].startswith("http://127.0.0.1:")
