"""YAML -> Settings; every error as file:line:column; what a reload cannot change.

Knows the order of the steps. Must not know how any of them is done:

    config_yaml      bytes -> nodes           syntax, one error at most
    config_tree      nodes -> Document        positions, duplicate keys, ${VAR}
    config_problems  Document -> Config       pydantic's errors as problems
    config_model       the keys               over config_kinds, config_rules, config_scalars
    config_build     Config -> Settings       defaults under routes
    config_checks    what keys mean together
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from isr_proxy.core.settings import Address, Settings, UnixAddress
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.run.config_build import build
from isr_proxy.run.config_checks import check
from isr_proxy.run.config_model import Config
from isr_proxy.run.config_problems import validate
from isr_proxy.run.config_tree import Data, Document, Path, read
from isr_proxy.run.config_yaml import MAX_FILE_BYTES, START, decode, failure

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_COMMAND_LINE: Final = "command line"


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Settings:
    """Read a config file.

    `environ` is what `${VAR}` is looked up in; None: this process's environment. ConfigError carries every
    problem of the file.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise failure(file, f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in the name
        raise failure(file, "cannot be read: not a file name") from None
    return parse(decode(raw, file), file=file, environ=os.environ if environ is None else environ)


def parse(text: str, *, file: str, environ: Mapping[str, str]) -> Settings:
    """Read a config's text; `file` names it in errors, and files it names lie beside it.

    ConfigError carries every problem, in file order.
    """
    return _settings(read(text, file, environ), os.path.dirname(file))


_DRAFT_COOKIES: Final = ("__prerender_bypass", "__next_preview_data")


def for_origin(
    url: str,
    *,
    listen: str | None = None,
    admin_listen: str | None = None,
    admin_token: str | None = None,
    store_path: str | None = None,
) -> Settings:
    """Return what `serve --origin URL` runs with: one route `/**` with `revalidate: origin`.

    Who looks at drafts of a Next.js app passes: its public pages are marked as shared, whatever cookie asks.
    The other arguments are written as in the config; ConfigError names them so.
    """
    admin = _without_none(listen=admin_listen, token=admin_token)
    data: dict[str, Data] = {
        "origin": {"url": url},
        "admin": admin,
        "store": _without_none(path=store_path),
        "defaults": {"bypass": {"cookies": list(_DRAFT_COOKIES)}},
    }
    if listen is not None:
        data["listen"] = listen
    return _settings(Document(_COMMAND_LINE, data, dict.fromkeys(_paths(data), START)), "")


def _paths(data: Data, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _paths(value, (*path, name))


def _without_none(**values: str | None) -> dict[str, Data]:
    return {name: value for name, value in values.items() if value is not None}


def _settings(document: Document, folder: str) -> Settings:
    config = validate(document)
    settings = build(config, os.path.abspath(folder))
    check(config, settings, document)
    if document.problems:
        raise ConfigError(_in_file_order(document.problems))
    return settings


def _in_file_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """Sort, and say once what an alias repeats."""
    ordered = sorted(problems, key=lambda problem: (problem.line, problem.column))
    return tuple({(p.line, p.column, p.message): p for p in reversed(ordered)}.values())[::-1]


# --- for editors ---


class _Schema(GenerateJsonSchema):
    """Without the titles that pydantic makes from names: they say nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a config file."""
    schema = Config.model_json_schema(schema_generator=_Schema)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "isr-proxy"}


# --- for a reload ---


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two settings: top-level keys, and what only a restart applies, readable."""

    keys: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def diff(old: Settings, new: Settings) -> Changes:
    """Say what a reload from `old` to `new` changes, and what of it it cannot apply."""
    keys = [name for name in Settings.__dataclass_fields__ if getattr(old, name) != getattr(new, name)]
    before, after = _fixed(old), _fixed(new)
    fixed = [
        f"{name}: {before[name]} -> {after[name]} needs a restart"
        for name in before
        if before[name] != after[name]
    ]
    return Changes(tuple(keys), tuple(fixed))


def _fixed(settings: Settings) -> dict[str, str]:
    """Return what a running proxy cannot change."""
    return {
        "listen": _addresses(settings.listen),
        "workers": str(settings.workers),
        **{f"store.{name}": str(value) for name, value in asdict(settings.store).items()},
        "admin.listen": str(settings.admin.listen),
    }


def _addresses(addresses: tuple[Address, ...]) -> str:
    return ", ".join(_address(address) for address in addresses)


def _address(address: Address) -> str:
    """Write what of an address is fixed: certificates are not, TLS itself is."""
    mode = (
        f" (mode {address.mode:o})" if isinstance(address, UnixAddress) and address.mode is not None else ""
    )
    return f"{address}{mode}{'' if address.tls is None else ' (TLS)'}"
