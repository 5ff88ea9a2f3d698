"""Which stored variant answers a request that has none of its own (RFC 9111 §4.1).

Knows that a page in the language a visitor likes best is his, whoever asked for it first. Must not know how
variants are stored.
"""

from __future__ import annotations

from typing import Final

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import parse_date
from isr_proxy.core.key import Variant
from isr_proxy.core.negotiation import is_wanted_most

LANGUAGE: Final = "accept-language"


def speaks_for(meta: Meta, wanted: Variant) -> bool:
    """Tell whether a page is in the language that a request likes best, and is its variant in all else."""
    own, asked = dict(meta.vary), dict(wanted.headers)
    accept = asked.pop(LANGUAGE, None)
    own.pop(LANGUAGE, None)
    return own == asked and is_wanted_most(meta.fields.first(b"content-language"), accept)


def dated_at(meta: Meta, state: State) -> float:
    """Return when a response was made: of several that fit, the newest counts (RFC 9111 §4)."""
    dated = parse_date(meta.fields.first(b"date"))
    return state.fetched_at - state.initial_age if dated is None else dated
