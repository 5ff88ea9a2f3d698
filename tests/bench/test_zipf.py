"""The crowd: whom it wants to see, and how often."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import zipf

PAGES = 1000


def test_the_second_page_is_wanted_half_as_often() -> None:
    counts = Counter(zipf.draws(PAGES, 200_000))
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.15)


def test_the_most_wanted_get_the_share_that_the_law_says() -> None:
    drawn = zipf.draws(PAGES, 200_000)
    share = sum(rank < 100 for rank in drawn) / len(drawn)
    assert share == pytest.approx(zipf.share_of_first(100, PAGES), rel=0.02)


def test_every_run_has_the_same_crowd() -> None:
    assert zipf.draws(PAGES, 50) == zipf.draws(PAGES, 50)
    assert zipf.heads(20) == zipf.heads(20)


def test_every_page_has_a_head_of_its_own() -> None:
    heads = zipf.heads(PAGES)
    assert len(set(heads)) == PAGES
    agents = {head.partition(b"User-Agent: ")[2].partition(b"\r")[0] for head in heads}
    assert len(agents) > 5


def test_popularity_does_not_follow_the_numbers() -> None:
    assert sorted(zipf.paths(PAGES)) == sorted(f"/crowd/{number}" for number in range(PAGES))
    assert zipf.paths(PAGES)[:5] != [f"/crowd/{number}" for number in range(5)]
