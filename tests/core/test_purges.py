"""Purges: the index answers as a list of all records would, whatever was purged and forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.purges import (
    CLEAN,
    Purge,
    PurgeIndex,
    Scope,
    Selector,
    Strength,
    Subject,
    Verdict,
    normal_tag,
)

HARD, SOFT = Strength.HARD, Strength.SOFT
PAGE = Subject("example.org", "/blog/a", "b=1", ("blog", "post:a"))

HITS = [
    Selector(Scope.ALL),
    Selector(Scope.HOST, "example.org"),
    Selector(Scope.PATH, "/blog/a"),
    Selector(Scope.PATH, "/blog/a", "example.org"),
    Selector(Scope.TARGET, "/blog/a?b=1"),
    Selector(Scope.TARGET, "/blog/a?b=1", "example.org"),
    Selector(Scope.PREFIX, ""),
    Selector(Scope.PREFIX, "/blog/"),
    Selector(Scope.PREFIX, "/blog/a", "example.org"),
    Selector(Scope.TAG, "post:a"),
]
MISSES = [
    Selector(Scope.HOST, "example.com"),
    Selector(Scope.PATH, "/blog/"),
    Selector(Scope.PATH, "/blog/a?b=1"),
    Selector(Scope.PATH, "/blog/a", "example.com"),
    Selector(Scope.TARGET, "/blog/a"),
    Selector(Scope.TARGET, "/blog/a?b=2"),
    Selector(Scope.PREFIX, "/blog/ab"),
    Selector(Scope.PREFIX, "/blog/", "example.com"),
    Selector(Scope.TAG, "post"),
    Selector(Scope.TAG, "Post:a"),
]


def index_of(*selectors: Selector) -> PurgeIndex:
    index = PurgeIndex()
    for sequence, selector in enumerate(selectors, 1):
        index.apply(Purge(sequence, 100.0 * sequence, selector))
    return index


@pytest.mark.parametrize("selector", HITS)
def test_law_2_a_purge_hides_what_it_names(selector: Selector) -> None:
    assert index_of(selector).verdict(PAGE, 0) == Verdict(hidden=True)


@pytest.mark.parametrize("selector", HITS)
def test_what_was_fetched_after_a_purge_is_not_hidden(selector: Selector) -> None:
    assert index_of(selector).verdict(PAGE, 1) is CLEAN


@pytest.mark.parametrize("selector", MISSES)
def test_a_purge_hides_nothing_else(selector: Selector) -> None:
    assert index_of(selector).verdict(PAGE, 0) is CLEAN


def test_every_scope_has_its_rows() -> None:
    assert {selector.scope for selector in HITS} == set(Scope)
    assert {selector.scope for selector in MISSES} == set(Scope) - {Scope.ALL}


def test_a_soft_purge_makes_stale_from_its_moment_on() -> None:
    index = index_of(Selector(Scope.ALL, strength=SOFT))
    assert index.verdict(PAGE, 0) == Verdict(stale_at=100.0)


def test_the_earliest_of_several_soft_purges_counts() -> None:
    index = index_of(Selector(Scope.TAG, "blog", strength=SOFT), Selector(Scope.ALL, strength=SOFT))
    assert index.verdict(PAGE, 0).stale_at == 100.0


def test_what_is_forgotten_costs_nothing() -> None:
    index = index_of(*HITS, *MISSES)
    index.forget(index.sequence)
    assert len(index) == 0
    assert index.verdict(PAGE, 0) is CLEAN
    assert index.sequence == len(HITS) + len(MISSES)


def test_tags_are_compared_without_case() -> None:
    assert normal_tag("  Post:A ") == "post:a"


# --- against a list ---

HOSTS = st.sampled_from(["a", "b"])
PATHS = st.sampled_from(["/", "/x", "/x/y", "/xy"])
QUERY = st.sampled_from([None, "q", "r"])
TAG = st.sampled_from(["t", "u"])
STRENGTHS = st.sampled_from(Strength)
SELECTORS = st.one_of(
    st.builds(Selector, st.just(Scope.ALL), strength=STRENGTHS),
    st.builds(Selector, st.just(Scope.HOST), HOSTS, strength=STRENGTHS),
    st.builds(Selector, st.just(Scope.PATH), PATHS, st.none() | HOSTS, STRENGTHS),
    st.builds(Selector, st.just(Scope.PREFIX), PATHS | st.just(""), st.none() | HOSTS, STRENGTHS),
    st.builds(
        lambda path, query, host, strength: Selector(Scope.TARGET, f"{path}?{query}", host, strength),
        PATHS,
        st.sampled_from(["q", "r"]),
        st.none() | HOSTS,
        STRENGTHS,
    ),
    st.builds(Selector, st.just(Scope.TAG), TAG, strength=STRENGTHS),
)
SUBJECTS = st.builds(Subject, HOSTS, PATHS, QUERY, st.lists(TAG, unique=True).map(tuple))


def names(selector: Selector, subject: Subject) -> bool:
    if selector.host not in (None, subject.host):
        return False
    target = subject.path + ("" if subject.query is None else f"?{subject.query}")
    return {
        Scope.ALL: True,
        Scope.HOST: selector.value == subject.host,
        Scope.PATH: selector.value == subject.path,
        Scope.TARGET: selector.value == target,
        Scope.PREFIX: subject.path.startswith(selector.value),
        Scope.TAG: selector.value in subject.tags,
    }[selector.scope]


def naive_verdict(records: list[Purge], subject: Subject, sequence: int) -> Verdict:
    """Scan every record; of soft ones for the same thing the youngest says since when."""
    younger = [purge for purge in records if purge.sequence > sequence]
    named = [purge for purge in younger if names(purge.selector, subject)]
    soft = {purge.selector: purge.at for purge in named if purge.selector.strength is SOFT}
    hidden = any(purge.selector.strength is HARD for purge in named)
    return Verdict(hidden, min(soft.values(), default=None))


@given(st.lists(SELECTORS, max_size=8), SUBJECTS, st.integers(0, 8), st.integers(0, 8))
def test_law_2_the_index_answers_as_a_list_would(
    purged: list[Selector], subject: Subject, sequence: int, forgotten: int
) -> None:
    """What is forgotten has been swept, so only what was fetched later is still there to be judged."""
    index = index_of(*purged)
    index.forget(min(sequence, forgotten))
    records = [Purge(place, 100.0 * place, selector) for place, selector in enumerate(purged, 1)]
    assert index.verdict(subject, sequence) == naive_verdict(records, subject, sequence)


@given(st.permutations(list(enumerate(HITS + MISSES, 1))), SUBJECTS | st.just(PAGE), st.integers(0, 20))
def test_law_2_it_does_not_matter_in_which_order_records_arrive(
    records: list[tuple[int, Selector]], subject: Subject, sequence: int
) -> None:
    index = PurgeIndex()
    for place, selector in records:
        index.apply(Purge(place, 100.0 * place, selector))
    assert index.verdict(subject, sequence) == index_of(*HITS, *MISSES).verdict(subject, sequence)


@pytest.mark.parametrize("target", ["/p", "/p?a=1", "/p?a=2"])
def test_law_2_a_page_for_many_queries_is_named_by_each_of_them(target: str) -> None:
    named = target != "/p?a=2"
    subject = Subject("example.org", "/p", None, (), asked="a=1")
    assert index_of(Selector(Scope.TARGET, target)).verdict(subject, 0).hidden is named


@pytest.mark.parametrize(
    ("selector", "named"),
    [
        (Selector(Scope.TARGET, "/p"), True),
        (Selector(Scope.TARGET, "/p?a=1", "example.org"), True),
        (Selector(Scope.TARGET, "/p?a=1", strength=SOFT), True),
        (Selector(Scope.TARGET, "/p?a=1", "example.com"), False),
        (Selector(Scope.TARGET, "/pp?a=1"), False),
        (Selector(Scope.TAG, "/p"), False),
    ],
)
def test_a_path_is_known_to_be_named_with_some_query(selector: Selector, named: bool) -> None:
    index = index_of(selector)
    assert index.names_a_query("example.org", "/p", 0) is named
    assert not index.names_a_query("example.org", "/p", index.sequence)
