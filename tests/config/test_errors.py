"""A file with many mistakes: all of them at once, each in its place, none of them a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from isr_proxy.errors import ConfigError
from isr_proxy.run import config
from tests.config.reading import problem, problems

BROKEN = Path(__file__).with_name("broken.yaml")

EXPECTED = {
    (1, 9): ("listen", "`0.0.0.0` is not an address to listen on; allowed: host:port"),
    (2, 10): ("workers", "`many` is not a number of workers; allowed: 1 to 256, or auto"),
    (3, 9): ("hosts[0]", "`exa mple.org` is not a host"),
    (4, 19): ("trusted_proxies[0]", "did you mean 10.0.0.0/8?"),
    (6, 8): ("origin.url", "has a path or query"),
    (7, 12): ("origin.timeout", "`soon` is not a duration; allowed: 500ms, 10s"),
    (8, 3): ("origin.timout", "unknown key, did you mean `timeout`?"),
    (9, 9): ("origin.host", "the environment variable UNSET_HOST is not set"),
    (11, 13): ("store.max_size", "`10 gigs` is not a size; allowed: 64KiB"),
    (13, 3): ("store.path", "duplicate key; the first one is at line 12, column 3"),
    (15, 10): ("admin.token", "at least 32 characters"),
    (16, 17): ("admin.purge_method", "`maybe` is neither true nor false"),
    (19, 17): ("routes[0].revalidate", "`often` is not a time to revalidate"),
    (20, 18): ("routes[0].tags[1]", "{id} is not a capture of `/blog/{slug}`; allowed: {slug}"),
    (21, 21): ("routes[0].key.headers[0]", "cannot be keyed"),
    (22, 5): ("routes[0].ttl", "unknown key; allowed: host, revalidate"),
    (23, 12): ("routes[1].match", "starts with `/`"),
    (24, 17): ("routes[1].set_cookie", "`store` needs `revalidate: origin`"),
    (26, 5): ("routes[2].match", "missing"),
    (27, 12): ("routes[3].match", "never matches: routes[0]"),
    (28, 28): ("routes[3].status_ttl.4o4", "is not an HTTP status"),
    (29, 15): ("routes[3].fallback", "allowed: blocking, not_found or {shell: /path}"),
    (30, 5): ("routes[4]", "is not a mapping; allowed: the keys"),
    (31, 14): ("log.level", "allowed: debug, info"),
}


@pytest.fixture(scope="module")
def broken() -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(BROKEN, {})
    return caught.value


def test_every_mistake_is_reported_once_and_nothing_else(broken: ConfigError) -> None:
    assert [(p.line, p.column) for p in broken.problems] == list(EXPECTED)


@pytest.mark.parametrize("place", EXPECTED)
def test_a_mistake_says_its_key_and_what_is_allowed(broken: ConfigError, place: tuple[int, int]) -> None:
    path, words = EXPECTED[place]
    found = next(p for p in broken.problems if (p.line, p.column) == place)
    assert found.path == path
    assert words in found.message


def test_the_text_of_a_problem_is_what_check_prints(broken: ConfigError) -> None:
    assert str(broken).splitlines()[1].startswith(f"{BROKEN}:2:10: workers: `many` is not a number")


@pytest.mark.parametrize(
    "text",
    [
        "admin: {token: hunter2}",
        "admin: {token: *hunter2}",
        "admin: {token: &hunter2 x}",
        "admin: {token: !hunter2 x}",
        "admin: {token: [hunter2]}",
        "admin: hunter2",
        "admin: {token: 'hunter2\t\u00e9 and much more than thirty-two of them'}",
        "admin: {token: '${SECRET}'}",
        "listen: ${SECRET}",
        "origin: {url: 'http://me:hunter2@app'}",
    ],
)
def test_a_secret_is_never_repeated(text: str) -> None:
    assert "hunter2" not in " ".join(problems(text, SECRET="hunter2"))


def test_a_mistake_in_an_anchor_is_reported_once() -> None:
    text = """\
    routes:
      - {match: /a, guard: &guard {min_bytes: many}}
      - {match: /b, guard: *guard}
    """
    assert problem(text).startswith("2:43: routes[0].guard.min_bytes: `many` is not a size")


def test_a_long_value_is_cut_and_stays_on_one_line() -> None:
    found = problem('log: {level: "' + "x\\n" * 500 + '"}')
    assert len(found) < 300
    assert "\n" not in found
