"""Structured logs: every event of ours, of asyncio and of aiohttp, in one form on stderr.

Knows structlog and the standard library's logging. Must not know what is worth logging. Access lines are
not events: they go to stdout from `serve/access_log.py`.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from isr_proxy.core.settings import LogFormat, LogSettings
from isr_proxy.serve.plain_text import printable

_HANDLER: Final = "isr-proxy"
_FIRST: Final = ("timestamp", "level", "event", "logger")  # the order in which a line is read
_QUIET: Final = ("asyncio", "aiohttp", "concurrent.futures")  # they tell their own debugging at debug


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send events to a stream, stderr unless told; called again, it takes the new settings."""
    target = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping().get(settings.level.upper(), logging.INFO)
    _configure_standard(_formatter(settings.format, target), target, level)
    structlog.configure(
        processors=[*_about(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a reload may change the level
    )


def _configure_standard(formatter: logging.Formatter, stream: TextIO, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.name = _HANDLER
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [one for one in root.handlers if one.name == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log nobody reads any more must not fail a request


def _about() -> list[Processor]:
    """What every event is told of itself, whoever logs it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(form: LogFormat, stream: TextIO) -> logging.Formatter:
    is_terminal = stream.isatty()
    match form:
        case LogFormat.JSON:
            last = _json_processors()
        case LogFormat.AUTO if not is_terminal:
            last = _json_processors()
        case LogFormat.AUTO | LogFormat.CONSOLE:
            last = _coloured_processors() if is_terminal else _plain_processors()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_about(), structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _json_processors() -> list[Processor]:
    return [structlog.processors.format_exc_info, _as_json]


def _coloured_processors() -> list[Processor]:
    return [*_console_processors(), structlog.dev.ConsoleRenderer(colors=True)]


def _plain_processors() -> list[Processor]:
    return [*_console_processors(), structlog.dev.ConsoleRenderer(colors=False)]


def _console_processors() -> list[Processor]:
    return [structlog.processors.format_exc_info, _made_printable]


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Write one object a line; JSON's own escapes keep it one line."""
    event = {name: event[name] for name in _FIRST if name in event} | dict(event)
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except (UnicodeEncodeError, TypeError):
        safe = {str(name): printable(str(value)) for name, value in event.items()}
        return msgspec.json.encode(safe).decode()


def _made_printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what a stranger could use to forge a line; a traceback keeps its lines, indented."""
    for name, value in event.items():
        if name == "exception":
            event[name] = "\n".join(f"    {printable(line)}" for line in str(value).split("\n"))
        elif not isinstance(value, int | float | None):
            event[name] = printable(value if isinstance(value, str) else str(value))
    return event
