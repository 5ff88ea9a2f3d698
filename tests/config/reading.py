"""What the config's tests ask: parse a text, or get its problems."""

from __future__ import annotations

from textwrap import dedent

import pytest

from isr_proxy.core.settings import Route, Settings
from isr_proxy.errors import ConfigError
from isr_proxy.run import config

FILE = "isr.yaml"


def parsed(text: str, **environ: str) -> Settings:
    return config.parse(dedent(text), file=FILE, environ=environ)


def problems(text: str, **environ: str) -> list[str]:
    """Return every problem as `line:column: path: message`."""
    with pytest.raises(ConfigError) as caught:
        parsed(text, **environ)
    return [str(problem).removeprefix(f"{FILE}:") for problem in caught.value.problems]


def problem(text: str, **environ: str) -> str:
    """Return the only problem."""
    found = problems(text, **environ)
    assert len(found) == 1, found
    return found[0]


def route(text: str) -> Route:
    """Return the first route of a config."""
    return parsed(text).routes[0]
