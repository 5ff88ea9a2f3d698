"""Attack: smuggling. A request that two servers would delimit differently hides a second one.

FIELD.md section 4.7: whatever frames a request in a way that anybody could read otherwise is refused with
400 (501 for a coding that we do not know) and the connection closed, so that what follows is never read.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.http.attacking import (
    HOST,
    PREFIX,
    SMUGGLED,
    Attack,
    Scene,
    answered,
    closed,
    get,
    owed,
    post,
    table,
)
from tests.http.requirements import requires
from tests.scripted_origin import Close, Exchange, head, page

CHUNKED = b"Transfer-Encoding: chunked"
EMPTY = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def coded(value: bytes, *more: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value, *more, body=EMPTY + PREFIX)


def sized(value: bytes) -> bytes:
    return post(b"Content-Length: " + value, body=b"hello" + PREFIX)


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body + PREFIX)


@requires("Attack: smuggling", "a request with both lengths is refused and the connection closed")
@table(
    Attack("CL.TE", post(b"Content-Length: 5", CHUNKED, body=EMPTY + PREFIX)),
    Attack("TE.CL", post(CHUNKED, b"Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n")),
    Attack("CL.TE with no body", post(b"Content-Length: 0", CHUNKED, body=EMPTY)),
    Attack("fat GET with both", get(b"Content-Length: 5", CHUNKED, body=EMPTY + PREFIX)),
    Attack("HEAD with both", get(b"Content-Length: 5", CHUNKED, body=EMPTY, method=b"HEAD")),
    Attack(
        "behind Connection", post(b"Connection: content-length", b"Content-Length: 5", CHUNKED, body=EMPTY)
    ),
    Attack(
        "CL with an unknown coding", post(b"Content-Length: 5", b"Transfer-Encoding: xchunked", body=EMPTY)
    ),
    Attack("CL with identity", post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello")),
)
async def test_both_lengths(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a transfer coding spelled so that only some servers see it is refused")
@table(
    Attack("chunked is not last", coded(b"chunked, identity")),
    Attack("chunked twice", coded(b"chunked, chunked")),
    Attack("another line", post(CHUNKED, b"Transfer-Encoding: identity", body=EMPTY + PREFIX)),
    Attack("the other way round", post(b"Transfer-Encoding: identity", CHUNKED, body=EMPTY + PREFIX)),
    Attack("the same line twice", post(CHUNKED, CHUNKED, body=EMPTY + PREFIX)),
    Attack("unknown", coded(b"xchunked")),
    Attack("unknown, longer", coded(b"chunkedx")),
    Attack("identity", coded(b"identity")),
    Attack("quoted", coded(b'"chunked"')),
    Attack("with a parameter", coded(b"chunked;q=1")),
    Attack("an empty member behind", coded(b"chunked,")),
    Attack("vertical tab before", coded(b"\x0bchunked")),
    Attack("vertical tab behind", coded(b"chunked\x0b")),
    Attack("form feed behind", coded(b"chunked\x0c")),
    Attack("NUL behind", coded(b"chunked\x00")),
    Attack("no-break space before", coded(b"\xa0chunked")),
    Attack("tab and space behind", coded(b"chunked \t")),
    Attack("blank before the colon", post(b"Transfer-Encoding : chunked", body=EMPTY + PREFIX)),
    Attack("tab before the colon", post(b"Transfer-Encoding\t: chunked", body=EMPTY + PREFIX)),
    Attack("NUL before the colon", post(b"Transfer-Encoding\x00: chunked", body=EMPTY + PREFIX)),
    Attack("vertical tab before the colon", post(b"Transfer-Encoding\x0b: chunked", body=EMPTY + PREFIX)),
    Attack("on a folded line", post(b"Transfer-Encoding:", b" chunked", body=EMPTY + PREFIX)),
    Attack("folded below another", post(b"X-Any: x", b" Transfer-Encoding: chunked", body=EMPTY + PREFIX)),
    Attack("behind a bare CR", post(b"X-Any: x\rTransfer-Encoding: chunked", body=EMPTY + PREFIX)),
    Attack("behind a bare LF", post(b"X-Any: x\nTransfer-Encoding: chunked", body=EMPTY + PREFIX)),
    Attack("behind CR CR LF", post(b"X-Any: x\r\r\nTransfer-Encoding: chunked", body=EMPTY + PREFIX)),
    Attack("to HTTP/1.0", post(CHUNKED, body=EMPTY + PREFIX).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
    Attack("first, and indented", b"POST PATH HTTP/1.1\r\n Transfer-Encoding: chunked\r\n%b\r\n\r\n" % HOST),
)
async def test_obfuscated_codings(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a coding that we do not know is 501, and never guessed at (RFC 9112 §6.1)")
@table(
    Attack("gzip before", coded(b"gzip, chunked")),
    Attack("identity before", coded(b"identity, chunked")),
    Attack("an empty member before", coded(b", chunked")),
    Attack("none", coded(b"")),
)
async def test_unknown_codings(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack, 501)


@requires("Attack: smuggling", "a Content-Length that is not one plain number is refused")
@table(
    Attack("two lines", post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello" + PREFIX)),
    Attack("two equal lines", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello" + PREFIX)),
    Attack("a list", sized(b"5, 0")),
    Attack("a list of equals", sized(b"5, 5")),
    Attack("plus", sized(b"+5")),
    Attack("minus", sized(b"-5")),
    Attack("hex", sized(b"0x5")),
    Attack("exponent", sized(b"5e0")),
    Attack("fraction", sized(b"5.0")),
    Attack("underscore", sized(b"0_5")),
    Attack("blank inside", sized(b"0 5")),
    Attack("semicolon", sized(b"5;")),
    Attack("none", sized(b"")),
    Attack("NUL", sized(b"5\x00")),
    Attack("vertical tab", sized(b"\x0b5")),
    Attack("another script's digit", sized("\u0665".encode())),
    Attack("full-width digit", sized("\uff15".encode())),
    Attack("2^64 - 1", sized(b"18446744073709551615")),
    Attack("2^64 + 5", sized(b"18446744073709551621")),
    Attack("2^63", sized(b"9223372036854775808")),
    Attack("10^30", sized(b"1" + b"0" * 30)),
    Attack("blank before the colon", post(b"Content-Length : 5", body=b"hello" + PREFIX)),
    Attack("folded", post(b"Content-Length:", b" 5", body=b"hello" + PREFIX)),
    Attack("0.CL", get(b"Content-Length : %d" % len(SMUGGLED), body=SMUGGLED)),
    Attack("0.CL behind a line break", get(b"X-Any: x\nContent-Length: %d" % len(SMUGGLED), body=SMUGGLED)),
)
async def test_doubtful_lengths(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a chunked body that is not delimited to the letter is refused")
@table(
    Attack("LF ends the size", chunks(b"5\nhello\r\n0\r\n\r\n")),
    Attack("LF ends the data", chunks(b"5\r\nhello\n0\r\n\r\n")),
    Attack("LF ends the body", chunks(b"5\r\nhello\r\n0\r\n\n")),
    Attack("LF ends the last size", chunks(b"5\r\nhello\r\n0\n\r\n")),
    Attack("CR and anything ends the size", chunks(b"5\rX\nhello\r\n0\r\n\r\n")),
    Attack("CR CR LF", chunks(b"5\r\r\nhello\r\n0\r\n\r\n")),
    Attack("two bytes more than said", chunks(b"5\r\nhelloXX0\r\n\r\n")),
    Attack("no end of the data", chunks(b"5\r\nhello0\r\n\r\n")),
    Attack("LF inside an extension", chunks(b'5;x="\n"\r\nhello\r\n0\r\n\r\n')),
    Attack("LF ends an extension", chunks(b"5;x\nhello\r\n0\r\n\r\n")),
    Attack("CR inside an extension", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    Attack("NUL in an extension", chunks(b"5;\x00\r\nhello\r\n0\r\n\r\n")),
    Attack("an extension without a name", chunks(b"5;\r\nhello\r\n0\r\n\r\n")),
    Attack("0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    Attack("plus", chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    Attack("minus", chunks(b"-5\r\nhello\r\n0\r\n\r\n")),
    Attack("underscore", chunks(b"0_5\r\nhello\r\n0\r\n\r\n")),
    Attack("blank before", chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    Attack("blank behind", chunks(b"5 \r\nhello\r\n0\r\n\r\n")),
    Attack("overflow", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    Attack("all ones and more", chunks(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n")),
    Attack("an empty line first", chunks(b"\r\n5\r\nhello\r\n0\r\n\r\n")),
    Attack("a length in the trailer", chunks(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n")),
    Attack("a folded trailer", chunks(b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n")),
    Attack("a blank before a trailer's colon", chunks(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n")),
)
async def test_broken_chunks(scene: Scene, attack: Attack) -> None:
    """The head is good, so the request may be on its way already; but it never looks whole to the origin."""
    for way in attack.ways:
        visitor = await scene.send(attack.on(f"/{way}/target"))
        reply = await answered(visitor)
        assert reply.status == 400
        assert await closed(visitor) == b""
        scene.only_asked({f"/{way}/target"})
        assert all(b"chunked" in request.raw_head.lower() for request in scene.origin.requests)
    await scene.nobody_else_is_hit()


@requires("Attack: smuggling", "a request without exactly one well-formed Host is refused")
@table(
    Attack("none", b"GET PATH HTTP/1.1\r\n\r\n"),
    Attack("two", get(b"Host: evil.example")),
    Attack("two equal", get(HOST)),
    *(
        Attack(repr(value)[2:-1], b"GET PATH HTTP/1.1\r\nHost: %b\r\n\r\n" % value)
        for value in (
            b"",
            b"evil@site.example",
            b"site.example@evil.example",
            b"site.example:80@evil.example",
            b"site.example:",
            b"site.example:x",
            b"site.example:-1",
            b"site.example:99999",
            b"site.example:80:80",
            b"site.example evil.example",
            b"site.example\tevil.example",
            b"site.example,evil.example",
            b"site.example/evil",
            b"site.example\\evil",
            b"site.example?evil",
            b"site.example#evil",
            b"site.example\x00evil",
            b"site%2eexample",
            b"s\xc3\xadte.example",
            b"site..example",
            b"site.example..",
            b".site.example",
            b"[::1",
            b"::1",
            b"[]",
            b"[:::::]",
            b"[::1]evil",
            b"a." * 130 + b"example",
            b"*",
        )
    ),
    Attack("blank before the colon", b"GET PATH HTTP/1.1\r\nHost : site.example\r\n\r\n"),
    Attack("indented", b"GET PATH HTTP/1.1\r\n Host: site.example\r\n\r\n"),
    Attack("folded", get(b" evil.example")),
    Attack("another in the target", get(target=b"http://evil.examplePATH")),
    Attack("userinfo in the target", get(target=b"http://evil@site.examplePATH")),
    Attack("another port in the target", get(target=b"http://site.example:81PATH")),
    Attack("none in the target", get(target=b"http://PATH")),
)
async def test_doubtful_hosts(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a Host spelled in another way is the same host, for key and origin")
@table(
    Attack("upper case", get().replace(b"site.example", b"SITE.example")),
    Attack("its scheme's port", get().replace(b"site.example", b"site.example:80")),
    Attack("the port with zeros", get().replace(b"site.example", b"site.example:0080")),
    Attack("the root's dot", get().replace(b"site.example", b"site.example.")),
    Attack("absolute form", get(target=b"http://site.examplePATH")),
    Attack("absolute form in capitals", get(target=b"HTTP://SITE.EXAMPLE:80PATH")),
)
async def test_one_host(scene: Scene, attack: Attack) -> None:
    await scene.harmless(attack)
    assert {request.header("host") for request in scene.origin.requests} == {"site.example"}


@requires("Attack: smuggling", "a bare CR or LF, NUL, a folded line or a blank before a colon is refused")
@table(
    Attack("LF everywhere", get(b"X-Any: x").replace(b"\r\n", b"\n")),
    Attack("LF ends the request line", get().replace(b"\r\n", b"\n", 1)),
    Attack("LF ends the head", b"GET PATH HTTP/1.1\r\n%b\r\n\n" % HOST),
    Attack("LF ends a line", get(b"X-Any: x\nX-More: y")),
    Attack("CR ends a line", get(b"X-Any: x\rX-More: y")),
    Attack("CR CR LF ends a line", get(b"X-Any: x\r")),
    Attack("CR CR LF ends the head", b"GET PATH HTTP/1.1\r\n%b\r\n\r\r\n" % HOST),
    Attack("CR in the request line", b"GET PATH\r HTTP/1.1\r\n%b\r\n\r\n" % HOST),
    Attack("folded by a blank", get(b"X-Any: x", b" y")),
    Attack("folded by a tab", get(b"X-Any: x", b"\ty")),
    Attack("a blank before a colon", get(b"X-Any : x")),
    Attack("a tab before a colon", get(b"X-Any\t: x")),
    Attack("a blank in a name", get(b"X Any: x")),
    Attack("no colon", get(b"X-Any")),
    Attack("no name", get(b": x")),
    *(
        Attack(f"{byte:#04x} in a name", get(b"X-%cAny: x" % byte))
        for byte in b'\x00\x01\x0b\x7f\x80\xe9"(),/;<=>?@[\\]{}'
    ),
    *(
        Attack(f"{byte:#04x} in a value", get(b"X-Any: x%cy" % byte))
        for byte in b"\x00\x01\x08\x0b\x0c\x1b\x7f"
    ),
)
async def test_doubtful_lines(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a request line that is not to the letter is refused")
@table(
    Attack("no version", get().replace(b" HTTP/1.1", b"", 1)),
    Attack("a word behind", get().replace(b"HTTP/1.1", b"HTTP/1.1 x", 1)),
    Attack("a blank behind", get().replace(b"HTTP/1.1", b"HTTP/1.1 ", 1)),
    Attack("a blank in the target", get(target=b"PATH x")),
    Attack("tabs", b"GET\tPATH\tHTTP/1.1\r\n%b\r\n\r\n" % HOST),
    Attack("a blank first", b" " + get()),
    Attack("a word before", b"X " + get()),
    Attack("a NUL in the method", get(method=b"G\x00ET")),
    *(
        Attack(version, get().replace(b"HTTP/1.1", version.encode(), 1))
        for version in ("HTTP/0.9", "HTTP/1.2", "HTTP/1.10", "HTTP/01.1", "HTTP/11", "http/1.1", "XHTTP/1.1")
    ),
    Attack("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Attack("TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 60),
)
async def test_doubtful_request_lines(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack)


@requires("Attack: smuggling", "a version of HTTP that we do not speak is 505 (RFC 9110 §15.6.6)")
async def test_unknown_versions(scene: Scene) -> None:
    await scene.refused(Attack("HTTP/2.0", get().replace(b"HTTP/1.1", b"HTTP/2.0", 1)), 505)


@requires("Attack: smuggling", "CONNECT opens no tunnel to anywhere (RFC 9110 §9.3.6)")
@table(
    Attack("a path", get(method=b"CONNECT")),
    Attack("a server", get(method=b"CONNECT", target=b"evil.example:443")),
    Attack("the host", get(method=b"CONNECT", target=b"site.example:80")),
)
async def test_connect(scene: Scene, attack: Attack) -> None:
    await scene.refused(attack, 501)


@requires("Attack: smuggling", "what is well formed, though unusual, is one request and sent on as one")
@table(
    Attack("empty lines first", b"\r\n\r\n" + get()),
    Attack("upper case", post(b"TRANSFER-ENCODING: CHUNKED", body=HELLO)),
    Attack("tabs around", post(b"Content-Length:\t5\t", body=b"hello")),
    Attack("zeros before", post(b"Content-Length: 0005", body=b"hello")),
    Attack("zeros before a chunk", post(CHUNKED, body=b"0005\r\nhello\r\n000\r\n\r\n")),
    Attack("an extension", post(CHUNKED, body=b"5;a=b\r\nhello\r\n0;x\r\n\r\n")),
    Attack("a request as the body", post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED)),
    Attack("a request as a chunk", post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED))),
    Attack("a request as a GET's body", get(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED)),
    Attack("POST without a body", post()),
    Attack("an expectation without a body", get(b"Expect: 100-continue")),
    Attack(
        "underscore twins", post(b"Transfer_Encoding: chunked", b"Content_Length: 5", b"Host_: evil.example")
    ),
    Attack("named by Connection", post(b"Connection: content-length", b"Content-Length: 5", body=b"hello")),
    Attack("a coding named by Connection", post(b"Connection: transfer-encoding", CHUNKED, body=HELLO)),
    Attack("an unknown expectation", post(b"Expect: y 100-continue", b"Content-Length: 5", body=b"hello")),
    Attack("TE", get(b"TE: trailers, chunked", b"Connection: TE")),
    Attack("another protocol", get().replace(b"HTTP/1.1", b"RTSP/1.0", 1)),
    Attack("h2c", get(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk")),
    Attack(
        "a WebSocket with a body",
        get(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 5", body=b"hello"),
    ),
    Attack(
        "a WebSocket with a chunked body",
        post(b"Upgrade: websocket", b"Connection: upgrade", CHUNKED, body=HELLO),
    ),
    Attack(
        "a WebSocket of no known version",
        get(b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Version: 777"),
    ),
    Attack("a refused upgrade", get(b"Upgrade: websocket", b"Connection: upgrade")),
    Attack(
        "an upgrade with a body",
        post(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 5", body=b"hello"),
    ),
    Attack(
        "a body to HTTP/1.0", post(b"Content-Length: 5", body=b"hello").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    ),
)
async def test_unusual_requests(scene: Scene, attack: Attack) -> None:
    await scene.harmless(attack)


@requires("Attack: smuggling", "a trailer of one request is no header of the next")
@pytest.mark.parametrize("way", ["isr", "shared", "pass"])
async def test_a_trailer_stays_with_its_request(scene: Scene, way: str) -> None:
    trailer = b"X-Original-URL: /evil\r\nX-Evil: 1\r\n"
    raw = post(CHUNKED, body=b"0\r\n" + trailer + b"\r\n").replace(b"PATH", f"/{way}/target".encode())
    for behind in (get(target=b"/pass/behind"), b""):
        visitor = await scene.send(raw + behind)
        await answered(visitor)
        if not behind:
            visitor.send("/pass/behind")
        await answered(visitor)
        visitor.reset()
    await scene.nobody_else_is_hit()
    behind_it = [request for request in scene.origin.requests if request.target == "/pass/behind"]
    assert all(request.header("x-evil") is None for request in behind_it)


@requires("Attack: smuggling", "CL.0, TE.0: an origin that ignores a body does not answer it to anybody else")
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["CL.0", "TE.0"])
async def test_an_origin_that_ignores_bodies(scene: Scene, method: bytes, is_chunked: bool) -> None:
    """It takes the body for the next request, and its answer comes when somebody else has asked."""

    async def ignore_the_body(exchange: Exchange) -> None:
        exchange._is_body_read = True
        if is_chunked:
            await exchange.reader.readline()  # many skip a line that is no request
        await exchange.send(head(200, {"Content-Length": "2"}) + (b"" if method == b"HEAD" else b"ok"))

    async def answer_late(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await exchange.run([*page("evil"), Close()])

    scene.origin.on("/pass/target", ignore_the_body)
    scene.origin.on("/smuggled", answer_late)
    framing = CHUNKED if is_chunked else b"Content-Length: %d" % len(SMUGGLED)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED) if is_chunked else SMUGGLED
    reply = await scene.ask(get(framing, target=b"/pass/target", body=body, method=method))
    assert reply.status == 200
    await scene.honest("/pass/honest")


@requires(
    "Attack: smuggling",
    "an origin that answers before the body has come gets no other request there",
)
async def test_an_early_answer(scene: Scene) -> None:
    async def answer_early(exchange: Exchange) -> None:
        exchange._is_body_read = True
        await exchange.send(head(200, {"Content-Length": "2"}) + b"ok")

    scene.origin.on("/pass/target", answer_early)
    visitor = await scene.send(
        b"POST /pass/target HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n" % (HOST, len(SMUGGLED))
    )
    assert (await answered(visitor)).text == "ok"
    visitor.writer.write(SMUGGLED)
    assert await closed(visitor) == b""
    await scene.honest("/pass/honest")
    scene.only_asked({"/pass/target", "/pass/honest"})


@requires("Attack: smuggling", "who waits for 100 (Continue) sends a body, whatever it looks like")
@pytest.mark.parametrize("way", ["isr", "shared", "pass"])
async def test_expectations(scene: Scene, way: str) -> None:
    head_only = post(b"Expect: 100-continue", b"Content-Length: %d" % len(SMUGGLED))
    for raw in (head_only + SMUGGLED, head_only):
        visitor = await scene.send(raw.replace(b"PATH", f"/{way}/target".encode()))
        if raw is head_only:
            assert (await visitor.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            visitor.writer.write(SMUGGLED)
        assert (await answered(visitor)).status == 200
        assert scene.origin.requests[-1].body == SMUGGLED
    scene.only_asked({f"/{way}/target"})
    await scene.nobody_else_is_hit()


@requires("Attack: smuggling", "an answer to HEAD has no body, so nothing of it is read as the next answer")
@pytest.mark.parametrize("way", ["isr", "shared", "pass"])
async def test_pipelined_after_head(scene: Scene, way: str) -> None:
    target = f"/{way}/target"
    visitor = await scene.send(get(target=target.encode(), method=b"HEAD") + get(target=b"/pass/behind"))
    assert (await answered(visitor, "HEAD")).body == b""
    assert (await answered(visitor)).body == owed("/pass/behind")


@requires("Attack: smuggling", "what follows a refused upgrade is not read as HTTP")
@pytest.mark.parametrize("way", ["isr", "shared", "pass"])
async def test_after_a_refused_upgrade(scene: Scene, way: str) -> None:
    upgrade = get(b"Upgrade: websocket", b"Connection: upgrade", target=f"/{way}/target".encode())
    visitor = await scene.send(upgrade + SMUGGLED)
    assert (await answered(visitor)).status == 200
    assert await closed(visitor) == b""
    scene.only_asked({f"/{way}/target"})
    await scene.nobody_else_is_hit()


@requires("Attack: smuggling", "an upgrade that the origin accepts belongs to one visitor alone")
async def test_an_upgrade_is_no_pooled_connection(scene: Scene) -> None:
    async def accept(exchange: Exchange) -> None:
        await exchange.send(head(101, {"Upgrade": "websocket", "Connection": "upgrade"}))
        await exchange.hang()

    scene.origin.on("/pass/ws", accept)
    visitor = await scene.send(get(b"Upgrade: websocket", b"Connection: upgrade", target=b"/pass/ws"))
    assert (await answered(visitor)).status == 101
    visitor.writer.write(SMUGGLED)
    await scene.honest("/pass/honest")
    visitor.reset()
    await scene.honest("/pass/honest")
    scene.only_asked({"/pass/ws", "/pass/honest"})


@requires(
    "Attack: smuggling", "the start fails without aiohttp's C parsers, whose strictness all this rests on"
)
def test_no_start_without_the_c_parsers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "isr_proxy", "serve", "--origin", "http://127.0.0.1:1"]
    done = subprocess.run(
        [*command, "--store", str(tmp_path / "store"), "--listen", "127.0.0.1:0"],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "parser is missing" in done.stderr
