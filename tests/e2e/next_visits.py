"""What a Next.js client sends besides plain page requests, and what a Next.js page says.

Knows the wire format of Next.js 16.4 (`computeCacheBustingSearchParam` in its sources).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from tests.e2e.visitor import Answer, Visitor

HTML: Final = "text/html"
COMPONENT: Final = "text/x-component"
_TREE: Final = quote('["",{"children":["__PAGE__",{},null,null,4096]},null,null,4113]', safe="")


@dataclass(frozen=True, slots=True)
class RscRequest:
    """A request for a page's component payload instead of its HTML."""

    name: str
    headers: Mapping[str, str]

    def url(self, path: str) -> str:
        """Return the path with the `_rsc` that the app demands for these headers."""
        return f"{path}?_rsc={_hash(self.headers)}"

    def ask(self, visitor: Visitor, path: str) -> Answer:
        return visitor.get(self.url(path), self.headers)


def _hash(headers: Mapping[str, str]) -> str:
    names = ("Next-Router-Prefetch", "Next-Router-Segment-Prefetch", "Next-Router-State-Tree", "Next-Url")
    if not any(name in headers for name in names):
        return ""
    digest = sha256(",".join(headers.get(name, "0") for name in names).encode()).digest()
    return urlsafe_b64encode(digest[:12]).decode()


PLAIN_RSC: Final = RscRequest("plain", {"RSC": "1"})
RSC_REQUESTS: Final = (
    PLAIN_RSC,
    RscRequest("navigation", {"RSC": "1", "Next-Router-State-Tree": _TREE}),
    RscRequest("prefetch", {"RSC": "1", "Next-Router-Prefetch": "1"}),
    RscRequest(
        "segment",
        {"RSC": "1", "Next-Router-Prefetch": "1", "Next-Router-Segment-Prefetch": "/_tree"},
    ),
)


def script_of(page: Answer) -> str:
    """Return the path of the first built script that a page names."""
    found = re.search(r"/_next/static/[^\"\\]+\.js", page.text)
    assert found is not None, page.text
    return found[0]
