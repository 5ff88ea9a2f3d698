"""A visitor with a cookie jar, as far as the tests need a browser.

Knows HTTP from outside. Must not know the proxy's insides.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import urlencode, urlsplit

_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, whole. Header names are lower case; repeated ones are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def x_cache(self) -> str:
        return self.headers.get("x-cache", "")

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def shown(self, name: str) -> str | None:
        """Return what the page shows as `name=...`."""
        found = re.search(rf'\b{name}=([^<"\\]*)', self.text)
        return None if found is None else found[1]

    def form_field(self, name: str) -> str:
        """Return the value of a hidden field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found is not None, f"no field {name} in {self.text}"
        return found[1]


def is_hit(answer: Answer) -> bool:
    return answer.x_cache == "HIT"


def is_no_hit(answer: Answer) -> bool:
    return answer.x_cache != "HIT"


@dataclass(slots=True)
class Visitor:
    """Each request on a connection of its own; cookies are kept and sent as a browser does."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers or {})

    def post(self, path: str, form: Mapping[str, str]) -> Answer:
        """Send a form from a page of the same site."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
        return self.ask("POST", path, headers, urlencode(form).encode())

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, {**self._cookie_header(), **headers})
            response = connection.getresponse()
            answer = Answer(response.status, _joined(response.getheaders()), response.read())
            self._keep(response.headers.get_all("set-cookie") or [])
            return answer
        finally:
            connection.close()

    def _cookie_header(self) -> dict[str, str]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": pairs} if pairs else {}

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)


def _joined(lines: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in lines:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
