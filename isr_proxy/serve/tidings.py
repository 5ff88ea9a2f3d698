"""What a fetch tells the other workers who wait for it: that it need not be tried again, and why.

Knows how an ending is written into a few bytes and read as an opening. Must not know how they travel. A page
that was stored tells nothing: whoever waits looks it up. Nor does anything else that one visitor got alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from isr_proxy.coord.flight import Flight
from isr_proxy.core.decision import Failed
from isr_proxy.core.http import Fields, Head
from isr_proxy.core.reason import Reason
from isr_proxy.serve.job import Broken, Opening, Relayed

NOTHING: Final = b""
_PASSED_ON: Final = Head(200, "OK", Fields())  # of an answer that was another's; nobody is shown it


class _Passing(msgspec.Struct, tag="passing", array_like=True):
    """It is not to be stored: each asks for himself."""

    reason: Reason
    is_personal: bool


class _Failing(msgspec.Struct, tag="failing", array_like=True):
    reason: Reason


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Passing | _Failing).decode


def tidings_of(flight: Flight[Opening]) -> bytes:
    """Write down what came of a flight that has landed."""
    if not flight.opening.done():
        return NOTHING
    opening, end = flight.opening.result(), flight.end
    if isinstance(opening, Relayed):
        return _encode(_Passing(opening.reason, opening.is_personal))
    if isinstance(opening, Broken):
        return _encode(_Failing(opening.failed.reason))
    if isinstance(end, Broken) and end.failed.reason is Reason.TOO_LARGE:
        return _encode(_Passing(Reason.TOO_LARGE, is_personal=False))
    return NOTHING


def opening_from(tidings: bytes) -> Opening:
    """Return what a flight opens with that waited for another worker's."""
    told: _Passing | _Failing = _decode(tidings)
    match told:
        case _Passing(reason, is_personal):
            return Relayed(reason, _PASSED_ON, None, is_personal)
        case _Failing(reason):
            return Broken(Failed(reason))
