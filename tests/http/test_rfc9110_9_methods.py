"""RFC 9110 §9: methods, known and unknown, pass as they are."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Send, head, page

METHODS = ["PUT", "PATCH", "DELETE", "PROPFIND", "M-SEARCH", "QUERY", "get", "Post", "PRI", "SOURCE"]
METHODS += ["X", "!#$%&'*+-.^_`|~09", "L" * 64, "DESCRIBE", "connect"]


@requires("RFC 9110 §9.1", "a method is passed as it is, known or not, in the case it has")
@pytest.mark.parametrize("method", METHODS)
async def test_any_method(method: str, passing: Site) -> None:
    passing.on("/p", page("fine"))
    reply = await passing.get("/p", method=method)
    assert (reply.text, passing.last.method) == ("fine", method)


@requires("RFC 9110 §9.1", "a method of any name may have a body, and another request behind it")
async def test_a_body_of_any_method(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    one = b"FETCH /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    for byte in one * 2:
        visitor.writer.write(bytes([byte]))
        await visitor.writer.drain()
    assert [(await visitor.reply()).status for _ in range(2)] == [404, 404]
    assert [(each.method, each.body) for each in passing.origin.requests] == [("FETCH", b"hello")] * 2


@requires("RFC 9110 §9.1", "what is no method is refused")
@pytest.mark.parametrize("method", ["A(B", "A:", "\x00", "L" * 65, "\xe9"])
async def test_no_method(method: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(method.encode("latin-1") + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await visitor.reply()).status == 400
    assert passing.origin.requests == []


@requires("RFC 9110 §9.3.2", "HEAD passes as HEAD; its answer has the length of GET's and no body")
async def test_head(passing: Site) -> None:
    passing.on("/p", [Send(head(200, {"Content-Length": "5"}))])
    visitor = await passing.proxy.visitor()
    for _ in range(2):
        reply = await visitor.get("/p", method="HEAD")
        assert (reply.headers["content-length"], passing.last.method) == ("5", "HEAD")
    assert passing.origin.connections == 1


@requires("RFC 9110 §9.3.6", "CONNECT is refused: no tunnel to anywhere")
@pytest.mark.parametrize("body", ["", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_connect(body: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(f"CONNECT inner:22 HTTP/1.1\r\nHost: inner:22\r\n{body}\r\n".encode())
    visitor.writer.write(b"SSH-2.0")
    reply = await visitor.reply()
    assert (reply.status, reply.headers["connection"]) == (501, "close")
    assert passing.origin.requests == []


@requires("RFC 9110 §9.3.7", "OPTIONS * is about the server, and passes as it is")
@pytest.mark.parametrize("target", ["*", "http://site.example"])
async def test_options_star(target: str, passing: Site) -> None:
    passing.on("*", page(""))
    assert (await passing.get(target, method="OPTIONS")).status == 200
    assert passing.last.target == "*"


@requires("RFC 9110 §7.6.2", "Max-Forwards is counted down on TRACE and OPTIONS, and left alone elsewhere")
@pytest.mark.parametrize(("method", "sent"), [("TRACE", "6"), ("OPTIONS", "6"), ("GET", "7")])
async def test_max_forwards(method: str, sent: str, passing: Site) -> None:
    await passing.get("/p", {"Max-Forwards": "7"}, method=method)
    assert passing.last.header("max-forwards") == sent


@requires("RFC 9110 §9.3.8", "TRACE that may go no further is answered with itself, less credentials")
async def test_trace_ends_here(passing: Site) -> None:
    headers = {"Max-Forwards": "0", "Cookie": "secret", "Authorization": "secret", "X-Seen": "1"}
    reply = await passing.get("/p?q", headers, method="TRACE")
    assert reply.headers["content-type"] == "message/http"
    assert reply.text == "TRACE /p?q HTTP/1.1\r\nHost: site.example\r\nMax-Forwards: 0\r\nX-Seen: 1\r\n\r\n"
    assert passing.origin.requests == []


@requires("RFC 9110 §7.6.2", "OPTIONS that may go no further is answered here")
@pytest.mark.parametrize("target", ["/p", "*"])
async def test_options_end_here(target: str, passing: Site) -> None:
    reply = await passing.get(target, {"Max-Forwards": "0"}, method="OPTIONS")
    assert (reply.status, reply.body) == (200, b"")
    assert passing.origin.requests == []


@requires(
    "RFC 9110 §8.6", "an empty body that is said to be empty stays so; where nothing is said, nothing is"
)
@pytest.mark.parametrize(("headers", "sent"), [({"Content-Length": "0"}, "0"), ({}, None)])
async def test_empty_bodies(headers: dict[str, str], sent: str | None, passing: Site) -> None:
    await passing.get("/p", headers, method="DELETE")
    assert passing.last.header("content-length") == sent
