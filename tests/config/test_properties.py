"""Whatever is written, the answer is Settings or a ConfigError."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from isr_proxy.core.settings import Settings
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.run import config
from isr_proxy.run.config_model import Config, RouteBlock
from isr_proxy.run.config_yaml import decode

SYNTAX = st.text(alphabet="abc:/{}[]<*&!|>'\"%@`#?,-~$ \t\n\r\\\u0085\u2028\ufeff\x00é0189", max_size=80)
WORDS = st.sampled_from(
    [
        "origin",
        "never",
        "forever",
        "60s",
        "/a",
        "/{slug}",
        "/**",
        "all",
        "store",
        "64KiB",
        "${X}",
        "${X:-1}",
        "",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=12)
KEYS = st.sampled_from([*Config.model_fields, *RouteBlock.model_fields, "url", "shell", "404"])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)
ROUTES = st.lists(st.dictionaries(st.sampled_from([*RouteBlock.model_fields]), TREES, max_size=6), max_size=4)
CONFIGS = st.dictionaries(KEYS, TREES, max_size=6) | st.fixed_dictionaries(
    {"routes": ROUTES}, optional={"defaults": st.dictionaries(KEYS, TREES, max_size=4)}
)


def answers(text: str) -> None:
    lines = text.count("\n") + text.count("\r") + text.count("\u0085") + text.count("\u2028") + 2
    answer = answer_to(text)
    if not isinstance(answer, Settings):
        assert answer
        assert all(1 <= p.line <= lines and p.column >= 1 and p.message for p in answer)


def answer_to(text: str) -> Settings | tuple[Problem, ...]:
    try:
        return config.parse(text, file="f", environ={"X": "1"})
    except ConfigError as error:
        return error.problems


@given(st.text(max_size=200) | SYNTAX)
@settings(max_examples=300, deadline=None)
def test_any_text_is_settings_or_a_config_error(text: str) -> None:
    answers(text)


@given(CONFIGS)
@settings(max_examples=300, deadline=None)
def test_any_yaml_is_settings_or_a_config_error(data: dict[str, Any]) -> None:
    answers(yaml.safe_dump(data, allow_unicode=True))


@given(st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_text_or_a_config_error(raw: bytes) -> None:
    try:
        text = decode(raw, "f")
    except ConfigError as error:
        text = str(error)
    answers(text)
