"""The JSON Schema: true of the example, of the defaults, and of every key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from isr_proxy.core.settings import Route, Settings
from isr_proxy.run import config

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
SCHEMA = config.json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key of the config with its schema."""
    schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", inner
        yield from properties(inner, f"{path}{name}.")
    if "items" in schema:
        yield from properties(schema["items"], path)


KEYS = list(properties(SCHEMA))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(("path", "schema"), KEYS)
def test_every_key_has_a_description(path: str, schema: dict[str, Any]) -> None:
    described = schema if "description" in schema else SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    assert described["description"].endswith(".")


@pytest.mark.parametrize(("path", "schema"), KEYS)
def test_every_example_of_a_key_is_valid(path: str, schema: dict[str, Any]) -> None:
    for example in schema.get("examples", []):
        Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]}).validate(example)


def test_the_example_parses_without_an_environment() -> None:
    assert config.load(EXAMPLE, {}).admin.token is None


def test_the_example_fits_the_schema() -> None:
    VALIDATOR.validate(yaml.safe_load(EXAMPLE.read_text()))


def test_the_example_shows_every_key() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    missing = [
        path for path, _ in properties(SCHEMA) if not path.startswith("defaults.") and not has(example, path)
    ]
    assert missing == []


def has(data: Any, path: str) -> bool:
    for name in path.split("."):
        data = data[0] if isinstance(data, list) else data
        if name not in data:
            return False
        data = data[name]
    return True


def defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that the schema documents, nested."""
    data: dict[str, Any] = {}
    for path, inner in properties(schema):
        if not path.startswith(("routes.", "defaults.")) and inner.get("default") not in (None, {}):
            *outer, name = path.split(".")
            block = data
            for step in outer:
                block = block.setdefault(step, {})
            block[name] = inner["default"]
    return data


def test_the_documented_defaults_are_the_real_ones() -> None:
    documented = config.parse(yaml.safe_dump(defaults(SCHEMA)), file="f", environ={})
    assert documented == Settings(routes=(Route("/**"),))


def test_the_documented_defaults_of_a_route_are_the_real_ones() -> None:
    keys = defaults(SCHEMA["$defs"]["RouteKeys"])
    written = yaml.safe_dump({"routes": [{"match": "/**", **keys}]})
    assert config.parse(written, file="f", environ={}).routes == (Route("/**"),)


@pytest.mark.parametrize(
    "text",
    [
        "workers: two",
        "lisen: ':80'",
        "routes: [{revalidate: 1s}]",
        "routes: [{match: /, revalidate: soon}]",
        "routes: [{match: /, status_ttl: {'40': 1s}}]",
        "routes: [{match: /, fallback: {shel: /x}}]",
        "origin: {url: 'localhost:3000'}",
    ],
)
def test_an_editor_marks_what_check_refuses(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))
