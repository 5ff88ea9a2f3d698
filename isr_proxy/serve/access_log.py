"""The access log: one line for each request, written behind the requests.

Knows how an Outcome reads as a line, as JSON or for people. Must not know metrics. Cookies, Authorization
and tokens never reach it: of the request's fields only User-Agent is read.

Lines are collected and a thread writes them, so a log that is read slowly never makes a visitor wait;
what does not fit in memory meanwhile is dropped and counted (law 8).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec.structs import replace as replaced

from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.plain_text import bounded, printable

MAX_TARGET: Final = 2048
MAX_FIELD: Final = 256
MAX_WAITING_BYTES: Final = 4 << 20
_BATCH_SECONDS: Final = 0.05  # lines of so long are written together
_CLOSE_SECONDS: Final = 1.0


class _Line(msgspec.Struct, frozen=True):
    """One request, in the order in which its keys are written."""

    timestamp: str
    level: str
    event: str
    method: str
    host: str
    path: str  # with its query
    route: str | None
    status: int
    x_cache: str
    reason: str
    bytes: int
    ms: float
    client: str
    user_agent: str


_encode: Final = msgspec.json.Encoder().encode
_COLOURS: Final = {"HIT": 32, "STALE": 36, "MISS": 33, "PASS": 35, "FALLBACK": 34, "ERROR": 31}


class Stamps:
    """ISO 8601 instants in UTC; what many lines share is made once."""

    def __init__(self) -> None:
        self._second = self._millisecond = -1
        self._date = self._text = ""

    def at(self, instant: float) -> str:
        """Write a Unix time to the millisecond."""
        millisecond = int(instant * 1000)
        if millisecond != self._millisecond:
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._date = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._second = second
            self._text = f"{self._date}.{rest:03d}Z"
            self._millisecond = millisecond
        return self._text


def line_of(outcome: Outcome, stamp: str) -> _Line:
    """Return what is logged of an outcome, every text of the visitor's cut to its limit."""
    request = outcome.request
    path = request.path if request.query is None else f"{request.path}?{request.query}"
    agent = request.fields.get(b"user-agent") or ""
    return _Line(
        stamp,
        "info",
        "request",
        bounded(request.method, MAX_FIELD),
        bounded(request.host, MAX_FIELD),
        path if len(path) <= MAX_TARGET else bounded(path, MAX_TARGET),
        outcome.route,
        outcome.status,
        outcome.x_cache._value_,  # `.value` is ten times as slow in Python 3.11
        outcome.reason._value_,
        outcome.sent_bytes,
        int(outcome.seconds * 1_000_000) / 1000,
        request.client,
        agent if len(agent) <= MAX_FIELD else bounded(agent, MAX_FIELD),
    )


def as_json(line: _Line) -> bytes:
    """Write a line as one JSON object; JSON's own escapes keep it one line."""
    try:
        return _encode(line) + b"\n"
    except UnicodeEncodeError:  # bytes in the target that are not UTF-8
        safe = {name: printable(text) for name in _TEXTS if (text := getattr(line, name)) is not None}
        return _encode(replaced(line, **safe)) + b"\n"


_TEXTS: Final = ("method", "host", "path", "route", "client", "user_agent")


def as_text(line: _Line) -> bytes:
    """Write a line for people."""
    return _text(line, f"{line.x_cache:<8}")


def as_coloured_text(line: _Line) -> bytes:
    """Write a line for people at a terminal."""
    return _text(line, f"\x1b[{_COLOURS[line.x_cache]}m{line.x_cache:<8}\x1b[0m")


def _text(line: _Line, x_cache: str) -> bytes:
    page = printable(f"{line.method} {line.host}{line.path}")
    agent = printable(line.user_agent).replace('"', "'")
    text = (
        f"{line.timestamp} {line.status} {x_cache} {line.reason:<14} {line.ms:8.1f} ms {line.bytes:9d} B"
        f'  {page}  {printable(line.client)} "{agent}"\n'
    )
    return text.encode("utf-8", "backslashreplace")


class AccessLog:
    """Writes lines to a file descriptor, a batch at a time, from a thread of its own."""

    def __init__(self, fd: int, form: Callable[[_Line], bytes], now: Callable[[], float]) -> None:
        self._fd = fd
        self._form = form
        self._now = now
        self._stamps = Stamps()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._has_lines = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def write(self, outcome: Outcome) -> None:
        """Log one request; never waits for the reader of the log."""
        self._write(self._form(line_of(outcome, self._stamps.at(self._now()))))

    def repeated(self, outcome: Outcome) -> Callable[[str], None]:
        """Return what logs an answer that is this one again, asked for by the client with an address."""
        line = line_of(replace(outcome, seconds=0.0), "")

        def write(client: str) -> None:
            self._write(self._form(replaced(line, timestamp=self._stamps.at(self._now()), client=client)))

        return write

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self.dropped += 1
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        if not self._has_lines.is_set():
            self._wake()

    def close(self) -> None:
        """Write what waits, giving a stuck reader one second."""
        self._is_closing = True
        self._has_lines.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _wake(self) -> None:
        if self._thread is None:  # started with the first line: after any fork
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()
        self._has_lines.set()

    def _run(self) -> None:
        while not self._is_closing:
            self._has_lines.wait()
            if not self._is_closing:
                time.sleep(_BATCH_SECONDS)
            self._has_lines.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, []
            self._waiting_bytes = 0
        try:
            _write_all(self._fd, b"".join(lines))
        except OSError:
            self.dropped += len(lines)


def _write_all(fd: int, data: bytes) -> None:
    # Not sys.stdout: its buffer has a lock, which a thread that is stuck in it would take to its grave.
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
