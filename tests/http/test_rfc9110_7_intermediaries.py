"""RFC 9110 §7: routing and intermediaries. What ends at this hop, what is added, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START, Visitor, config, running
from tests.http.conftest import PASSING, Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, head, page

# Odd and legal; each must come through as it is.
ODD = [
    ("X-Mixed-CASE", "Value"),
    ("x-empty", ""),
    ("X-Twice", "1"),
    ("x-between", "a\tb  c"),
    ("X-Twice", "2"),
    ("X-Obs", "\xe9\xff\x80"),
    ("X_Under_Score", "1"),
    ("!#$%&'*+-.^_`|~0", "1"),
    ("X-Quoted", '"a, b\\" c", d'),
    ("X-Long", "x" * 7000),
]
LINES = "".join(f"{name}: {value}\r\n" for name, value in ODD)


@requires(
    "RFC 9110 §5.3", "field lines pass in order, names in their case, values byte for byte, none joined"
)
async def test_request_fields(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(f"GET /p HTTP/1.1\r\nHost: a\r\n{LINES}\r\n".encode("latin-1"))
    await visitor.reply()
    assert LINES.encode("latin-1") in passing.last.raw_head


@requires("RFC 9110 §5.3", "response lines pass likewise; Set-Cookie is never joined")
async def test_response_fields(passing: Site) -> None:
    lines = (
        LINES + "Set-Cookie: a=1\r\nset-cookie: b=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT\r\nServer: x\r\n"
    )
    passing.on("/p", [Send(f"HTTP/1.1 299 Odd \xe9\r\n{lines}Content-Length: 0\r\n\r\n".encode("latin-1"))])
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    raw = await visitor.reader.readuntil(b"\r\n\r\n")
    assert raw.startswith(f"HTTP/1.1 299 Odd \xe9\r\n{lines}".encode("latin-1"))


TARGETS = [
    "/%7E",
    "/~",
    "//a//",
    "/a?",
    "/?a=b;c+d&&",
    "/a%2Fb",
    "/a;x=1",
    "/a?x=%zz",
    "/a?%2e%2E/../",
    "/%C3%A9",
]
TARGETS += ['/a?q={}|^`"<>', "/" + "a" * 7000, "/a??", "/a/?http://b/", "/:@!$&'()*,="]


@requires("RFC 9110 §4.2.3", "path and query reach the origin byte for byte")
@pytest.mark.parametrize("target", TARGETS)
async def test_targets(target: str, passing: Site) -> None:
    await passing.get(target)
    assert passing.last.target == target


@requires("RFC 9112 §3.2", "raw bytes beyond ASCII are no request target")
@pytest.mark.parametrize("target", ["/\xe9", "/?\xe9", "/\xc3\xa9"])
async def test_targets_beyond_ascii(target: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
    assert (await visitor.reply()).status == 400
    assert passing.origin.requests == []


@requires("RFC 9110 §7.6.1", "hop-by-hop fields, and what Connection names, end here; both ways")
async def test_connection(passing: Site) -> None:
    hops = {
        "Connection": "close, X-Named, keep-alive",
        "X-Named": "1",
        "Keep-Alive": "timeout=5",
        "Proxy-Connection": "keep-alive",
        "X-Kept": "1",
    }
    passing.on("/p", page("hello", hops))
    reply = await passing.get("/p", hops)
    dropped = {name.lower() for name in hops} - {"connection", "x-kept"}
    assert not dropped & {name for name, _ in passing.last.headers}
    assert passing.last.header("connection") is None
    assert not dropped & set(reply.headers)
    assert (reply.headers["x-kept"], reply.headers["connection"]) == ("1", "close")


@requires("RFC 9110 §7.6.3", "Via is appended to, with the version that was received")
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_via(version: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    head = f"GET /p HTTP/{version}\r\nHost: a\r\nVia: 1.0 one, 2 two (comment)\r\nVIA: 1.1 three\r\n\r\n"
    visitor.writer.write(head.encode())
    await visitor.reply()
    via = f"1.0 one, 2 two (comment), 1.1 three, {version} isr-proxy"
    assert passing.last.header("via") == via


@requires("RFC 9110 §7.6.3", "Via of a response stays; a gateway need not add itself, and does not")
async def test_response_via(passing: Site) -> None:
    passing.on("/p", page("hello", {"Via": "1.1 inner"}))
    assert (await passing.get("/p")).headers["via"] == "1.1 inner"


@requires("RFC 9110 §7.6.3", "a request that goes round in circles ends with 508")
async def test_a_loop(tmp_path: Path, start: Start, origin: ScriptedOrigin) -> None:
    async def again(exchange: Exchange) -> None:
        inner = await Visitor.connect(proxy.url)
        reply = await inner.get("/p", {"Via": exchange.request.header("via") or ""})
        await inner.close()
        await exchange.run(page(reply.text, status=reply.status))

    async with start(PASSING) as proxy:
        origin.on("/p", again)
        assert (await proxy.get("/p")).status == 508
    assert origin.hits("/p") == 8


@requires("RFC 9110 §7.7", "content, its coding and its metadata are not transformed")
async def test_no_transformation(passing: Site) -> None:
    headers = {"Content-Encoding": "gzip", "Content-MD5": "x", "ETag": 'W/"a"', "Cache-Control": "max-age=9"}
    passing.on("/p", page(b"\x1f\x8bnot really", headers))
    reply = await passing.get("/p", {"Accept-Encoding": "gzip, br"})
    assert reply.body == b"\x1f\x8bnot really"
    assert {name: reply.headers[name.lower()] for name in headers} == headers
    assert passing.last.header("accept-encoding") == "gzip, br"


@requires("RFC 9110 §6.6.1", "Date is added where the origin sent none, and left alone where it did")
@pytest.mark.parametrize("date", ["Sun, 06 Nov 1994 08:49:37 GMT", None])
async def test_date(date: str | None, passing: Site) -> None:
    passing.on("/p", page("hello", {"Date": date} if date else {}))
    assert (await passing.get("/p")).headers["date"] == (date or format_date(START))


@requires("RFC 9110 §8.6", "the length in a 304 is the page's own, and is passed")
async def test_length_of_a_304(passing: Site) -> None:
    passing.on("/p", [Send(head(304, {"Content-Length": "5", "ETag": '"a"'}))])
    visitor = await passing.proxy.visitor()
    for _ in range(2):
        reply = await visitor.get("/p", {"If-None-Match": '"a"'})
        assert (reply.status, reply.headers["content-length"]) == (304, "5")


# --- upgrades (§7.8) ---


def switching(protocol: str) -> list[Send]:
    return [Send(head(101, {"Upgrade": protocol, "Connection": "Upgrade"}) + b"hello ")]


@requires("RFC 9110 §7.8", "any protocol may be switched to; the origin chooses, and early bytes are kept")
@pytest.mark.parametrize("protocol", ["websocket", "foo/2", "IRC/6.9", "postgres"])
async def test_upgrade(protocol: str, passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.run(switching(protocol))
        await exchange.send(await exchange.reader.readexactly(4))
        await exchange.hang()

    passing.on("/p", script)
    visitor = await passing.proxy.visitor()
    visitor.writer.write(
        f"GET /p HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, {protocol}\r\n\r\nanna".encode()
    )
    reply = await visitor.reply()
    assert (reply.status, reply.headers["upgrade"]) == (101, protocol)
    assert reply.headers["connection"] == "upgrade"
    assert await visitor.reader.readexactly(10) == b"hello anna"
    assert passing.last.header("upgrade") == f"x, {protocol}"


@requires("RFC 9110 §7.8", "after a switch either side may end alone, and the other is still heard")
async def test_half_close(passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.run(switching("foo"))
        said = await exchange.reader.read()
        await exchange.send(b"you said " + said)
        exchange.close()

    passing.on("/p", script)
    visitor = await passing.proxy.visitor()
    visitor.send("/p", {"Connection": "upgrade", "Upgrade": "foo"})
    await visitor.reply()
    visitor.writer.write(b"bye")
    visitor.writer.write_eof()
    assert await visitor.reader.read() == b"hello you said bye"


@requires("RFC 9110 §7.8", "HTTP itself is never tunnelled: h2c would carry requests past every rule")
@pytest.mark.parametrize("protocol", ["h2c", "H2C", "HTTP/2.0", "TLS/1.0", "h2c, h2"])
async def test_no_tunnel_of_http(protocol: str, passing: Site) -> None:
    passing.on("/p", page("plain"))
    asked = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "x"}
    assert (await passing.get("/p", asked)).text == "plain"
    assert not {"upgrade", "connection", "http2-settings"} & {name for name, _ in passing.last.headers}


@requires("RFC 9110 §7.8", "an upgrade asked for in HTTP/1.0 is ignored")
async def test_no_upgrade_in_http_10(passing: Site) -> None:
    passing.on("/p", page("plain"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await visitor.reply()).text == "plain"
    assert passing.last.header("upgrade") is None


@requires("RFC 9110 §7.8", "an upgrade behind a body is not asked for; the request is answered as any other")
async def test_no_upgrade_behind_a_body(passing: Site) -> None:
    passing.on("/p", page("plain"))
    visitor = await passing.proxy.visitor()
    asked = {"Connection": "upgrade", "Upgrade": "websocket", "Content-Length": "2"}
    visitor.send("/p", asked, method="POST")
    visitor.writer.write(b"hi" + b"\x81\x00")
    reply = await visitor.reply()
    assert (reply.text, reply.headers["connection"]) == ("plain", "close")
    assert (passing.last.body, passing.last.header("upgrade")) == (b"hi", None)
    assert await visitor.reader.read() == b""


@requires("RFC 9110 §15.5.22", "426 says to which protocol")
async def test_upgrade_required(passing: Site) -> None:
    passing.on("/p", page("no", {"Upgrade": "foo/2", "Connection": "upgrade"}, status=426))
    reply = await passing.get("/p")
    assert (reply.status, reply.headers["upgrade"], reply.headers["connection"]) == (426, "foo/2", "upgrade")


@requires("RFC 9110 §15.2.2", "an origin that switches without being asked has not answered")
async def test_unasked_switch(passing: Site) -> None:
    passing.on("/p", switching("foo"))
    assert (await passing.get("/p")).status == 502


# --- who is told to have asked (RFC 7239) ---

STRANGER = {
    "Forwarded": "for=6.6.6.6;host=evil",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Proto": "https",
}


def told(site_or_origin: ScriptedOrigin) -> dict[str, str | None]:
    return {name: site_or_origin.requests[-1].header(name) for name in STRANGER}


@requires("RFC 7239 §8.1", "what a stranger says of who he is and what he asked is replaced")
async def test_a_stranger(passing: Site) -> None:
    await passing.get("/p", STRANGER)
    assert told(passing.origin) == {
        "Forwarded": "for=127.0.0.1;host=site.example;proto=http",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "site.example",
        "X-Forwarded-Port": "80",
        "X-Forwarded-Proto": "http",
    }


@requires("RFC 7239 §4", "a trusted proxy's chain is appended to; Forwarded and X-Forwarded-For say the same")
async def test_a_trusted_proxy(tmp_path: Path, origin: ScriptedOrigin) -> None:
    more = "trusted_proxies: [127.0.0.0/8]\n"
    text = config(origin.url, tmp_path / "store", PASSING, more=more)
    said = {**STRANGER, "X-Forwarded-For": "2001:db8::1", "X-Forwarded-Host": "shop.example:8443"}
    async with running(text) as proxy:
        await proxy.get("/p", said)
    assert told(origin) == {
        "Forwarded": 'for="[2001:db8::1]";host="shop.example:8443";proto=https, for=127.0.0.1',
        "X-Forwarded-For": "2001:db8::1, 127.0.0.1",
        "X-Forwarded-Host": "shop.example:8443",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Proto": "https",
    }
