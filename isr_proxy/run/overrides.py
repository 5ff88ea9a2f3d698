"""What `serve` runs with: a config file, or an app's URL, with what the command line changes of it.

Knows which options stand above the file. Must not know how a file is read (config.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from isr_proxy.core.settings import Address, Settings
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.run import config
from isr_proxy.run.config_scalars import address

TOKEN_VARIABLE: Final = "ISR_ADMIN_TOKEN"
_COMMAND_LINE: Final = "command line"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Options of the command line; empty or None: as the config says. `admin_listen` needs no file."""

    listen: tuple[str, ...] = ()
    store: str | None = None
    admin_listen: str | None = None


def load(file: Path | None, origin: str | None, overrides: Overrides) -> Settings:
    """Return the settings; ConfigError carries every problem.

    Without a file, exactly one of the two being given, the admin token comes from ISR_ADMIN_TOKEN.
    """
    if file is None:
        settings = config.for_origin(
            origin or "",
            admin_listen=overrides.admin_listen,
            admin_token=os.environ.get(TOKEN_VARIABLE) or None,
        )
        return _overridden(settings, replace(overrides, admin_listen=None))
    return _overridden(config.load(file), overrides)


def _overridden(settings: Settings, overrides: Overrides) -> Settings:
    if overrides.listen:
        settings = replace(settings, listen=tuple(_address("listen", one) for one in overrides.listen))
    if overrides.store is not None:
        settings = replace(settings, store=replace(settings.store, path=os.path.abspath(overrides.store)))
    return settings


def _address(option: str, text: str) -> Address:
    try:
        return address(text)
    except ValueError as error:
        raise ConfigError((Problem(_COMMAND_LINE, 1, 1, option, str(error)),)) from None
