"""Freshness under `revalidate: origin` against a second implementation, as plain as RFC 9111 §4.2 reads."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.entry import State
from isr_proxy.core.freshness import Phase, initial_age, read_origin_times, times
from isr_proxy.core.http import Fields, Line, format_date
from tests.core.making import NOW, by_origin, meta

SECONDS = st.integers(0, 200)
MAYBE = st.none() | SECONDS


@dataclass(frozen=True)
class Answer:
    """What an origin said, in seconds; instants relative to when the request was sent."""

    s_maxage: int | None
    max_age: int | None
    expires: int | None
    date: int | None
    age: int | None
    modified: int | None
    status: int
    delay: int  # until the answer came

    @property
    def fields(self) -> Fields:
        directives = [f"s-maxage={self.s_maxage}"] if self.s_maxage is not None else []
        directives += [f"max-age={self.max_age}"] if self.max_age is not None else []
        lines: list[Line] = [(b"Cache-Control", ", ".join(directives).encode())] if directives else []
        for name, instant in (
            ("Expires", self.expires),
            ("Date", self.date),
            ("Last-Modified", self.modified),
        ):
            if instant is not None:
                lines.append((name.encode(), format_date(NOW + instant).encode()))
        if self.age is not None:
            lines.append((b"Age", str(self.age).encode()))
        return Fields(lines)


ANSWERS = st.builds(
    Answer,
    MAYBE,
    MAYBE,
    st.none() | st.integers(-200, 200),
    st.none() | st.integers(-200, 200),
    MAYBE,
    st.none() | st.integers(-100_000, -1),
    st.sampled_from([200, 201, 302, 404, 405, 410, 500]),
    st.integers(0, 50),
)


def naive_lifetime(answer: Answer) -> float | None:
    """RFC 9111 §4.2.1 and §4.2.2."""
    date_value = answer.delay if answer.date is None else answer.date
    if answer.s_maxage is not None:
        return answer.s_maxage
    if answer.max_age is not None:
        return answer.max_age
    if answer.expires is not None:
        return max(0, answer.expires - date_value)
    if answer.modified is None or answer.status not in (200, 404, 410):
        return None
    return min(max(0, (date_value - answer.modified) / 10), 86_400)


def naive_current_age(answer: Answer, resident: float) -> float:
    """RFC 9111 §4.2.3, in its own words."""
    response_time, request_time = answer.delay, 0
    date_value = response_time if answer.date is None else answer.date
    apparent_age = max(0, response_time - date_value)
    response_delay = response_time - request_time
    age_value = 0 if answer.age is None else answer.age
    corrected_age_value = age_value + response_delay
    corrected_initial_age = max(apparent_age, corrected_age_value)
    return corrected_initial_age + resident


@given(ANSWERS, SECONDS)
def test_fresh_is_what_a_naive_cache_calls_fresh(answer: Answer, resident: int) -> None:
    answered_at = NOW + answer.delay
    said = read_origin_times(answer.status, answer.fields, answered_at)
    lifetime = naive_lifetime(answer)
    assert said.ttl == lifetime
    age = initial_age(answer.fields, NOW, answered_at)
    state = State(1, answered_at, age)
    stored = meta(answer.status, ttl=said.ttl)
    at = times(stored, state, by_origin(), answered_at + resident, soft_purged_at=None)
    current_age = naive_current_age(answer, resident)
    assert at.age == current_age
    assert (at.phase is Phase.FRESH) == ((lifetime or 0) > current_age)
