"""What wrk is told, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.heads import chrome, plain
from bench.loads import Drawn, LoadFailed, Said, Same, Unseen, parse, write

GOOD = """\
Running 1s test @ http://127.0.0.1:18999/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.06ms  307.42us  14.05ms   97.09%
    Req/Sec    60.92k     2.53k   64.04k    80.00%
  61000 requests in 1.00s, 602.10MB read
Requests/sec:  60912.34
Transfer/sec:    601.22MB
"""


def test_what_wrk_counts() -> None:
    assert parse(GOOD) == Said(61_000, 60_912.34)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (GOOD + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", "read 3"),
        (GOOD + "  Non-2xx or 3xx responses: 17\n", "17"),
        (GOOD.replace("61000 requests", "0 requests"), "not one answer"),
        ("unable to connect", "did not say"),
    ],
)
def test_a_run_with_one_error_does_not_count(said: str, why: str) -> None:
    with pytest.raises(LoadFailed, match=why):
        parse(said)


def test_the_same_bytes_again_and_again(tmp_path: Path) -> None:
    head = chrome("/page/10k")
    script = write(Same(head), tmp_path)
    assert script.heads.read_bytes() == head
    assert "wrk.format" in script.script.read_text()


def test_a_number_stands_where_the_path_ends(tmp_path: Path) -> None:
    load = Unseen("/slow/")
    script = write(load, tmp_path)
    assert script.heads.read_bytes().replace(b"%", b"7") == load.sample(7)


def test_draws_are_ranks_of_the_heads(tmp_path: Path) -> None:
    heads = (plain("/a"), plain("/b"))
    load = Drawn(heads, (1, 0, 0))
    script = write(load, tmp_path)
    assert script.heads.read_bytes() == b"".join(heads)
    assert script.draws.read_text().split() == ["1", "0", "0"]
    assert [load.sample(turn) for turn in range(4)] == [heads[1], heads[0], heads[0], heads[1]]
