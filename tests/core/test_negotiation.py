"""Normal values of request headers, and the language wanted most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.negotiation import is_wanted_most, normal_value

SAME = [
    ("foo", ["1, 2"], ["1,2"]),
    ("foo", ["1", "2"], ["1 ,\t2"]),
    ("foo", ["1", "", "2"], ["1, 2,"]),
    ("foo", ['"a, b"'], ['"a, b" ,']),
    ("accept-language", ["en, de"], ["DE,en"]),
    ("accept-language", ["de;q=0.5, en"], ["EN;q=1.0", "de; q=0.50"]),
]
DIFFERENT = [
    ("foo", ["1, 2"], ["2, 1"]),
    ("foo", ["a"], ["A"]),
    ("foo", ['"a, b"'], ['"a,b"']),
    ("foo", [""], []),
    ("user-agent", ["x (a, b)"], ["x (a,b)"]),
    ("accept-language", ["en, de"], ["en;q=0.9, de"]),
    ("accept-language", ["en"], ["en-us"]),
    ("accept-language", ["en"], []),
]


@pytest.mark.parametrize(("name", "one", "other"), SAME)
def test_values_that_mean_the_same(name: str, one: list[str], other: list[str]) -> None:
    assert normal_value(name, one) == normal_value(name, other)


@pytest.mark.parametrize(("name", "one", "other"), DIFFERENT)
def test_values_that_differ(name: str, one: list[str], other: list[str]) -> None:
    assert normal_value(name, one) != normal_value(name, other)


@given(
    st.sampled_from(["foo", "accept-language", "user-agent"]),
    st.lists(st.text(st.sampled_from('ab-;=q.,10* "\\\xe9'))),
)
def test_a_normal_value_is_normal(name: str, values: list[str]) -> None:
    normal = normal_value(name, values)
    assert normal == normal_value(name, [] if normal is None else [normal])


WANTED = [
    ("de", "de", True),
    ("de-AT", "de", True),
    ("de", "de-AT", False),
    ("DE", "fr, de", True),
    ("de", "fr, de;q=0.9", False),
    ("de", "de;q=0.9, fr;q=0.8", True),
    ("de", "de;q=0", False),
    ("de, en", "de", False),
    ("de", "*", False),
    (None, "de", False),
    ("de", None, False),
]


@pytest.mark.parametrize(("language", "accept", "is_wanted"), WANTED)
def test_the_language_wanted_most(language: str | None, accept: str | None, is_wanted: bool) -> None:
    assert is_wanted_most(language, accept) is is_wanted
