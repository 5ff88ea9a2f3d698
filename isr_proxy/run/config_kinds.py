"""The kinds of values a config has: how each is read, and how an editor is told of it.

Knows pydantic and JSON Schema. Must not know keys. A `${VAR}` may stand for any scalar.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema

from isr_proxy.core.settings import (
    Address,
    ClientDirectives,
    Fallback,
    Heuristic,
    LogFormat,
    Network,
    PathSource,
    QueryMode,
    RequestCookie,
    Revalidate,
    SetCookie,
    TlsVersion,
    UnsafeMethods,
    Veto,
)
from isr_proxy.run import config_rules as rules
from isr_proxy.run import config_scalars as scalars

_Schema = dict[str, Any]
_VARIABLE: Final[_Schema] = {"type": "string", "pattern": r"\$\{"}


def _is(*options: _Schema) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [*options, _VARIABLE]})


def _words(*words: str) -> _Schema:
    return {"enum": list(words)}


def _text(pattern: str) -> _Schema:
    return {"type": "string", "pattern": pattern}


def _array(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _named(name: str) -> _Schema:
    """Describe a mapping of exactly one key."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"}},
        "required": [name],
        "additionalProperties": False,
    }


def _none_is_empty(value: object) -> object:
    return [] if value is None else value


def listen_items(value: object) -> object:
    """Take an address for a mapping with that address, and a single one for a list of it."""
    items = _one_or_more(value)
    assert isinstance(items, list)
    return [item if isinstance(item, dict) else {"address": item} for item in items]


class ListenSchema:
    """What `listen` may be written as: an address, a mapping, or a list of both."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> _Schema:
        one = [_ADDRESS, handler(core)["items"]]
        many = {**_array({"anyOf": [*one, _VARIABLE]}), "minItems": 1}
        return {"anyOf": [*one, many, _VARIABLE]}


def _one_or_more(value: object) -> object:
    """Take a single item for a list of it; an empty list is refused."""
    if value == []:
        raise ValueError("has nothing in it; allowed: one, or a list of at least one")
    return value if isinstance(value, list) else [value]


_STRING: Final[_Schema] = {"type": "string"}
_NUMBER: Final[_Schema] = {"type": "number", "minimum": 0}
_DURATION: Final = _text(rf"^(?:{scalars.DURATION_PATTERN}|[0-9]+(\.[0-9]+)?)$")
_SIZE: Final = _text(r"^[0-9]+(\.[0-9]+)? ?(([KMGTkmgt][Ii]?)?[Bb])?$")
_PATH: Final = _text("^/")
_ADDRESS: Final = _text(r"^(unix:/.+|.*:[0-9]+)$")
_MODE: Final = _text("^0?[0-7]{3}$")
_URL: Final = _text(r"^(https?://[^/?#@]+/?|unix:/.+)$")

# --- numbers ---

Duration = Annotated[float, PlainValidator(scalars.duration), _is(_DURATION, _NUMBER)]
Deadline = Annotated[float, PlainValidator(scalars.positive_duration), _is(_DURATION, _NUMBER)]
Window = Annotated[
    float, PlainValidator(scalars.duration_or_forever), _is(_words("forever"), _DURATION, _NUMBER)
]
Size = Annotated[int, PlainValidator(scalars.size), _is(_SIZE, _NUMBER)]
Room = Annotated[int, PlainValidator(scalars.positive_size), _is(_SIZE, _NUMBER)]
Count = Annotated[int, PlainValidator(scalars.count), _is({"type": "integer", "minimum": 1})]
Workers = Annotated[
    int, PlainValidator(scalars.workers), _is(_words("auto"), {"type": "integer", "minimum": 1})
]
Fraction = Annotated[
    float, PlainValidator(scalars.fraction), _is({"type": "number", "minimum": 0, "maximum": 1})
]
Status = Annotated[int, PlainValidator(scalars.status)]
StatusTtl = Annotated[
    dict[Status, Duration],
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[1-5][0-9][0-9]$"},
            "additionalProperties": {"anyOf": [_DURATION, _NUMBER, _VARIABLE]},
        }
    ),
]

# --- words ---


def _one_of(kind: type[Enum]) -> PlainValidator:
    return PlainValidator(lambda value: scalars.choice(value, kind))


Switch = Annotated[bool, PlainValidator(scalars.switch), _is({"type": "boolean"})]
Text = Annotated[str, PlainValidator(scalars.text), WithJsonSchema(_STRING)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_none_is_empty)]
Level = Annotated[str, PlainValidator(rules.level), _is(_words(*rules.LEVELS))]
Format = Annotated[LogFormat, _one_of(LogFormat), _is(_words("auto", "console", "json"))]
Vetoes = Annotated[
    tuple[Annotated[Veto, _one_of(Veto)], ...],
    BeforeValidator(_none_is_empty),
    WithJsonSchema(_array(_words("no-store", "private", "vary"))),
]
CookieRule = Annotated[SetCookie, _one_of(SetCookie), _is(_words("refuse", "drop", "store"))]
RequestCookieRule = Annotated[RequestCookie, _one_of(RequestCookie), _is(_words("refuse", "store"))]
Guess = Annotated[Heuristic, _one_of(Heuristic), _is(_words("off", "pages", "all"))]
UnsafeRule = Annotated[UnsafeMethods, _one_of(UnsafeMethods), _is(_words("invalidate", "ignore"))]
DirectiveRule = Annotated[ClientDirectives, _one_of(ClientDirectives), _is(_words("ignore", "honor"))]
Token = Annotated[str | None, PlainValidator(rules.token), WithJsonSchema({"type": ["string", "null"]})]
FieldValue = Annotated[str, PlainValidator(rules.field_value), WithJsonSchema(_STRING)]

# --- places ---

Host = Annotated[str, PlainValidator(scalars.host), WithJsonSchema(_STRING)]
HostPattern = Annotated[str, PlainValidator(scalars.host_pattern), WithJsonSchema(_STRING)]
HostPatterns = Annotated[tuple[HostPattern, ...], BeforeValidator(_none_is_empty)]
Cidr = Annotated[Network, PlainValidator(scalars.network), WithJsonSchema(_STRING)]
Cidrs = Annotated[tuple[Cidr, ...], BeforeValidator(_none_is_empty)]
Listen = Annotated[Address, PlainValidator(scalars.address), _is(_ADDRESS)]
FileMode = Annotated[int, PlainValidator(scalars.file_mode), _is(_MODE, {"type": "integer"})]
Version = Annotated[TlsVersion, _one_of(TlsVersion), _is(_words("1.2", "1.3"), {"enum": [1.2, 1.3]})]
OriginUrl = Annotated[str, PlainValidator(scalars.origin_url)]
OriginUrls = Annotated[
    tuple[OriginUrl, ...],
    BeforeValidator(_one_or_more),
    _is(_URL, {**_array({"anyOf": [_URL, _VARIABLE]}), "minItems": 1}),
]
Pattern = Annotated[str, PlainValidator(rules.pattern), _is(_PATH)]
UrlPath = Annotated[str, PlainValidator(rules.url_path), _is(_PATH)]

# --- routes ---

Fresh = Annotated[
    Revalidate, PlainValidator(rules.revalidate), _is(_words("origin", "never"), _DURATION, _NUMBER)
]
FallbackRule = Annotated[
    Fallback, PlainValidator(rules.fallback), _is(_words("blocking", "not_found"), _named("shell"))
]
Sources = Annotated[
    tuple[Annotated[PathSource, PlainValidator(rules.path_source)], ...],
    BeforeValidator(_none_is_empty),
    WithJsonSchema(_array({"anyOf": [_PATH, _named("file"), _named("sitemap"), _named("json"), _VARIABLE]})),
]
KeyedQuery = Annotated[
    tuple[QueryMode, tuple[str, ...]],
    PlainValidator(rules.query),
    _is(_words("all", "none"), _array(_STRING)),
]
QueryPattern = Annotated[str, PlainValidator(rules.query_pattern), WithJsonSchema(_STRING)]
QueryPatterns = Annotated[tuple[QueryPattern, ...], BeforeValidator(_none_is_empty)]
KeyedHeader = Annotated[str, PlainValidator(rules.keyed_header), WithJsonSchema(_STRING)]
KeyedHeaders = Annotated[tuple[KeyedHeader, ...], BeforeValidator(_none_is_empty)]
KeyedCookie = Annotated[str, PlainValidator(rules.keyed_cookie), WithJsonSchema(_STRING)]
KeyedCookies = Annotated[tuple[KeyedCookie, ...], BeforeValidator(_none_is_empty)]
CookiePattern = Annotated[str, PlainValidator(rules.cookie_pattern), WithJsonSchema(_STRING)]
CookiePatterns = Annotated[tuple[CookiePattern, ...], BeforeValidator(_none_is_empty)]
HeaderPattern = Annotated[str, PlainValidator(rules.header_pattern), WithJsonSchema(_STRING)]
HeaderPatterns = Annotated[tuple[HeaderPattern, ...], BeforeValidator(_none_is_empty)]
Tag = Annotated[str, PlainValidator(rules.tag), WithJsonSchema(_STRING)]
Tags = Annotated[tuple[Tag, ...], BeforeValidator(_none_is_empty)]
