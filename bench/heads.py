"""Request heads: the least that HTTP/1.1 wants, and what browsers send.

Knows bytes of requests. Must not know who sends them, or when.
"""

from __future__ import annotations

from typing import Final

HOST: Final = "www.example.org"

_LANGUAGES: Final = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7")
_SYSTEMS: Final = (
    ("Windows", "Windows NT 10.0; Win64; x64"),
    ("macOS", "Macintosh; Intel Mac OS X 10_15_7"),
    ("Linux", "X11; Linux x86_64"),
)
_VERSIONS: Final = (142, 143, 144)

BROWSERS: Final = len(_LANGUAGES) * len(_SYSTEMS) * len(_VERSIONS)


def plain(path: str, *fields: tuple[str, str]) -> bytes:
    """Return a request with a Host and these fields."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode()


def chrome(path: str, browser: int = 0) -> bytes:
    """Return what Chrome sends when a page is opened; `browser` counts versions, systems and languages."""
    system, agent = _SYSTEMS[browser % len(_SYSTEMS)]
    version = _VERSIONS[browser // len(_SYSTEMS) % len(_VERSIONS)]
    language = _LANGUAGES[browser // len(_SYSTEMS) // len(_VERSIONS) % len(_LANGUAGES)]
    return plain(
        path,
        ("Connection", "keep-alive"),
        ("sec-ch-ua", f'"Chromium";v="{version}", "Google Chrome";v="{version}", "Not_A Brand";v="99"'),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", f'"{system}"'),
        ("Upgrade-Insecure-Requests", "1"),
        (
            "User-Agent",
            f"Mozilla/5.0 ({agent}) AppleWebKit/537.36 (KHTML, like Gecko)"
            f" Chrome/{version}.0.0.0 Safari/537.36",
        ),
        (
            "Accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
            "application/signed-exchange;v=b3;q=0.7",
        ),
        ("Sec-Fetch-Site", "none"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-User", "?1"),
        ("Sec-Fetch-Dest", "document"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", language),
    )
