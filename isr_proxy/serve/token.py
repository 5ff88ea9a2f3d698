"""The operator's token: did this request bring it?

Knows the Authorization header's Bearer form (RFC 6750 §2.1). Must not know who asks.
"""

from __future__ import annotations

import hmac
from enum import Enum


class Access(Enum):
    """What an Authorization header is worth."""

    GRANTED = "granted"
    MISSING = "missing"  # none, or not of the Bearer form
    WRONG = "wrong"


def access(authorization: str | None, token: str) -> Access:
    """Compare a header's token with ours, in a time that tells nothing of it."""
    scheme, _, given = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        return Access.MISSING
    is_equal = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return Access.GRANTED if is_equal else Access.WRONG
