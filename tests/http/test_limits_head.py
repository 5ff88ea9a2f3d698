"""Request heads that are too large: 414 and 431, each with its reason, and nothing of them at the origin."""

from __future__ import annotations

import pytest

from tests.harness import Proxy, Reply
from tests.http.conftest import Start
from tests.http.requirements import requires
from tests.scripted_origin import ScriptedOrigin, page

PASS = "- {match: '/**', revalidate: 0}"
LIMITS = "limits: {max_request_line: 1000, max_header_field: 500, max_headers: 10, max_head: 2000}\n"
HOST = "Host: a\r\n"


def line_of(size: int) -> str:
    """Return a request line of so many bytes, without its end."""
    return "GET /" + "a" * (size - 14) + " HTTP/1.1"


def field_of(size: int, name: str = "X") -> str:
    """Return a field of so many bytes, without its end."""
    return f"{name}: " + "v" * (size - len(name) - 2)


async def answer(proxy: Proxy, head: str) -> Reply:
    visitor = await proxy.visitor()
    visitor.writer.write(head.encode())
    return await visitor.reply()


def is_counted(proxy: Proxy, reason: str) -> bool:
    """Tell whether a reason stands in the metrics, once."""
    line = f'isr_proxy_answers_total{{reason="{reason}",result="ERROR"}} 1.0'
    return line in proxy.worker.observation.render().decode()


@requires("RFC 9110 §15.5.15", "a request line that is too long gets 414")
@pytest.mark.parametrize("size", [1001, 1100, 100_000])
async def test_a_long_request_line(start: Start, origin: ScriptedOrigin, size: int) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        reply = await answer(proxy, f"{line_of(size)}\r\n{HOST}\r\n")
        assert (reply.status, reply.headers["x-cache-reason"]) == (414, "request-line-too-long")
        assert (reply.headers["connection"], reply.headers["cache-control"]) == ("close", "no-store")
        assert is_counted(proxy, "request-line-too-long")
        assert origin.requests == []


@requires("RFC 6585 §5", "a header field that is too large gets 431")
@pytest.mark.parametrize("field", [field_of(501), field_of(5000), "X" * 5000 + ": v"])
async def test_a_large_field(start: Start, origin: ScriptedOrigin, field: str) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        reply = await answer(proxy, f"GET / HTTP/1.1\r\n{HOST}{field}\r\n\r\n")
        assert (reply.status, reply.headers["x-cache-reason"]) == (431, "header-field-too-large")
        assert is_counted(proxy, "header-field-too-large")
        assert origin.requests == []


@requires("RFC 6585 §5", "too many header fields get 431")
async def test_many_fields(start: Start, origin: ScriptedOrigin) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        reply = await answer(proxy, f"GET / HTTP/1.1\r\n{HOST}" + "X: 1\r\n" * 10 + "\r\n")
        assert (reply.status, reply.headers["x-cache-reason"]) == (431, "too-many-header-fields")
        assert origin.requests == []


@requires("RFC 6585 §5", "header fields too large together get 431")
@pytest.mark.parametrize("end", ["\r\n", ""], ids=["whole", "endless"])
async def test_a_large_head(start: Start, origin: ScriptedOrigin, end: str) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        fields = "".join(f"{field_of(450, f'X{number}')}\r\n" for number in range(5))
        reply = await answer(proxy, f"GET / HTTP/1.1\r\n{HOST}{fields}{end}")
        assert (reply.status, reply.headers["x-cache-reason"]) == (431, "head-too-large")
        assert origin.requests == []


@requires("RFC 9112 §3", "a request line of 8000 octets is taken")
async def test_what_is_within_the_limits_reaches_the_origin(start: Start, origin: ScriptedOrigin) -> None:
    async with start(PASS) as proxy:
        line = line_of(8192)
        path = line.split(" ")[1]
        origin.on(path, page("long"))
        reply = await answer(proxy, f"{line}\r\n{HOST}{field_of(8192)}\r\n" + "Y: 1\r\n" * 126 + "\r\n")
        assert (reply.status, reply.text) == (200, "long")
        assert origin.requests[0].header("x") == "v" * 8189


@requires("RFC 6585 §5", "a large head behind an honest request does not touch the honest answer")
async def test_a_large_head_in_a_pipeline(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/honest", page("honest"))
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await proxy.visitor()
        large = f"GET /large HTTP/1.1\r\n{HOST}{field_of(501)}\r\n\r\n"
        visitor.writer.write(f"GET /honest HTTP/1.1\r\n{HOST}\r\n{large}".encode())
        assert [(await visitor.reply()).status for _ in range(2)] == [200, 431]
        assert [request.target for request in origin.requests] == ["/honest"]


@requires("Attack: endless empty lines", "blank lines before a request are bounded")
async def test_blank_lines_without_end(start: Start) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        assert (await answer(proxy, "\r\n" * 5000)).status in (400, 431)
