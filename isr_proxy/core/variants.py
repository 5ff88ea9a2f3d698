"""Which stored variant answers a request that has none of its own (RFC 9111 §4.1).

Knows that a page in the language a visitor likes best is his, whoever asked for it first. Must not know how
variants are stored.
"""

from __future__ import annotations

from typing import Final

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import Fields, parse_date
from isr_proxy.core.key import Variant, variant_of
from isr_proxy.core.negotiation import is_wanted_most

LANGUAGE: Final = "accept-language"


def speaks_for(meta: Meta, wanted: Variant) -> bool:
    """Tell whether a page is in the language that a request likes best, and is its variant in all else."""
    return _speaks(meta.fields, meta.variant, wanted)


def _speaks(page: Fields, variant: Variant, wanted: Variant) -> bool:
    own, asked = dict(variant.headers), dict(wanted.headers)
    accept = asked.pop(LANGUAGE, None)
    own.pop(LANGUAGE, None)
    return own == asked and is_wanted_most(page.first(b"content-language"), accept)


def is_for(request: Fields, variant: Variant, page: Fields) -> bool:
    """Tell whether a page of this variant answers a request: it is his own, or speaks his language."""
    wanted = variant_of(variant.names, request)
    return variant == wanted or (LANGUAGE in variant.names and _speaks(page, variant, wanted))


def dated_at(meta: Meta, state: State) -> float:
    """Return when a response was made: of several that fit, the newest counts (RFC 9111 §4)."""
    dated = parse_date(meta.fields.first(b"date"))
    return state.fetched_at - state.initial_age if dated is None else dated
