"""Lists of paths, and what is refused of them."""

from __future__ import annotations

import gzip

import pytest

from isr_proxy.serve import path_lists
from isr_proxy.serve.path_lists import BadList, gunzip, parse_json, parse_lines, parse_sitemap


def test_lines_without_comments() -> None:
    assert parse_lines("/a\n  /b # why\n\n# none\n") == ["/a", "/b"]


@pytest.mark.parametrize(
    "raw", [b'["/a"]', b'[{"path": "/a"}]', b'[{"url": "/a", "x": 1}]', b'{"paths": ["/a"]}']
)
def test_json_forms(raw: bytes) -> None:
    assert parse_json(raw) == ["/a"]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b'[{"name": "/a"}]', b'"/a"', b"[" * 100_000])
def test_json_that_is_no_list(raw: bytes) -> None:
    with pytest.raises(BadList):
        parse_json(raw)


def test_sitemap_takes_pages_not_images() -> None:
    raw = (
        b'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:i="urn:i">'
        b"<url><loc> http://a.example/x?a=1&amp;b=2 </loc>"
        b"<i:image><i:loc>/img.png</i:loc></i:image></url></urlset>"
    )
    assert parse_sitemap(raw).pages == ["http://a.example/x?a=1&b=2"]


@pytest.mark.parametrize(
    "raw",
    [
        b'<!DOCTYPE urlset [<!ENTITY a "aaaa">]><urlset><url><loc>&a;</loc></url></urlset>',
        b"<html></html>",
        b"<urlset><url>",
        b"",
        b"<urlset>" + b"<url>" * 100,
        gzip.compress(b"<urlset></urlset>")[:-4],
    ],
)
def test_sitemap_that_is_refused(raw: bytes) -> None:
    with pytest.raises(BadList):
        parse_sitemap(raw)


def test_law_8_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_lists, "MAX_BYTES", 1000)
    with pytest.raises(BadList, match="longer"):
        gunzip(gzip.compress(b"a" * 1001))
