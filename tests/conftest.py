"""For every test.

Hypothesis' pytest plugin imports the rest of itself when the first test fails. CPython 3.11 can die of that
import, deep inside a hook, with a SystemError that hides the failure; so it is imported here, early.
"""

from __future__ import annotations

import hypothesis.internal.observability

assert hypothesis.internal.observability
