"""The admin API's other end: one call, one reply.

Knows addresses, the token and what can become of a call. Must not know commands or how a reply is shown.
It speaks through `http.client`, which neither follows redirects nor reads proxies from the environment,
so the token goes to the address that was given and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from isr_proxy import __version__

MAX_REPLY_BYTES: Final = 64 << 20
_UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Done:
    """The server did it; `data` is its JSON."""

    data: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """The server said no; `data` is its JSON, None where it sent none."""

    status: int
    message: str
    problems: tuple[str, ...]
    data: Any


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody there, or nobody who speaks the admin API."""

    detail: str


Reply = Done | Refused | Unreachable


class AdminClient:
    """Calls one admin address. ValueError from the constructor: not an address, or not a token."""

    def __init__(self, url: str, token: str | None, timeout: float | None) -> None:
        """`url` is http(s)://host[:port] or unix:/path; `timeout` counts between bytes, None: no limit."""
        self.url = url
        self._timeout = timeout
        self._parts = urlsplit(url)
        if not url.startswith(_UNIX) and (
            self._parts.scheme not in ("http", "https") or not self._parts.hostname
        ):
            raise ValueError(f"{url!r} is not an admin address: http://host:port, https://... or unix:/path")
        _ = self._parts.port  # raises ValueError when it is none
        self._headers = {"Accept": "application/json", "User-Agent": f"isr-proxy/{__version__}"}
        if token:
            if not token.isascii() or not token.isprintable():
                raise ValueError("the token has characters that no token has")
            self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Reply:
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, data: Mapping[str, object]) -> Reply:
        return self._call("POST", path, json.dumps(data).encode())

    def _call(self, method: str, target: str, body: bytes | None) -> Reply:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        connection = self._connection()
        try:
            connection.request(method, self._parts_path() + target, body, headers)
            response = connection.getresponse()
            return _reply(response.status, response.reason, response.read(MAX_REPLY_BYTES))
        except TimeoutError:
            return Unreachable(f"no answer from {self.url} within {self._timeout:g} s")
        except OSError as error:
            return Unreachable(f"cannot reach {self.url}: {error.strerror or error}")
        except http.client.HTTPException as error:
            return Unreachable(f"{self.url} does not speak HTTP: {type(error).__name__}")
        finally:
            connection.close()

    def _parts_path(self) -> str:
        return "" if self.url.startswith(_UNIX) else self._parts.path.rstrip("/")

    def _connection(self) -> http.client.HTTPConnection:
        if self.url.startswith(_UNIX):
            return _UnixConnection(self.url.removeprefix(_UNIX), self._timeout)
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reply(status: int, reason: str, body: bytes) -> Reply:
    try:
        data = json.loads(body) if body else None
    except ValueError:
        if status < 400:
            return Unreachable("the answer is not JSON: is this the admin address?")
        data = None
    if status < 300:
        return Done(data)
    problems = _problems(data)
    message = _message(data) or f"{status} {reason}"
    # Where the message only joins the problems, they are told once.
    return Refused(status, message, () if message == "; ".join(problems) else problems, data)


def _message(data: Any) -> str:
    """Return what the server's JSON says went wrong."""
    said = data.get("error") if isinstance(data, dict) else None
    return said if isinstance(said, str) else ""


def _problems(data: Any) -> tuple[str, ...]:
    """Return the single problems, as of a config that cannot be used."""
    said = data.get("errors") if isinstance(data, dict) else None
    return tuple(str(one) for one in said) if isinstance(said, list) else ()
