"""RFC 9110 §10.1.1: Expect. Whether a body is wanted is the origin's to say."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.origin import connection
from tests.harness import Visitor
from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Close, Exchange, head, page

CONTINUE = {"Content-Length": "5", "Expect": "100-continue"}


async def asking(passing: Site, **more: str) -> Visitor:
    visitor = await passing.proxy.visitor()
    visitor.send("/p", {**CONTINUE, **more}, method="POST")
    return visitor


@requires(
    "RFC 9110 §10.1.1", "the expectation goes to the origin, and its own 100 comes back, before the body"
)
async def test_the_origins_100(passing: Site) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        asked.set()
        await go_on.wait()
        await exchange.send(head(100))
        assert await exchange.body() == b"hello"
        await exchange.run(page("thanks"))

    passing.on("/p", script)
    visitor = await asking(passing)
    await asked.wait()
    assert passing.last.header("expect") == "100-continue"
    go_on.set()
    assert (await visitor.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    visitor.writer.write(b"hello")
    reply = await visitor.reply()
    assert (reply.text, reply.interim) == ("thanks", ())


@requires("RFC 9110 §10.1.1", "the origin's refusal reaches the visitor, and the body is not asked for")
@pytest.mark.parametrize("status", [417, 401, 413])
async def test_the_origins_refusal(status: int, passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.run([*page("no", status=status), Close()])

    passing.on("/p", script)
    reply = await (await asking(passing)).reply()
    assert (reply.status, reply.text, reply.interim) == (status, "no", ())
    assert reply.headers["connection"] == "close"  # whether the body still comes is not known


@requires("RFC 9110 §10.1.1", "a connection whose body was not wanted carries no further request")
async def test_the_connection_after_a_refusal(passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.run(page("no", status=417))
        await exchange.hang()

    passing.on("/p", script)
    await (await asking(passing)).reply()
    await passing.get("/other")
    assert passing.origin.connections == 2


@requires("RFC 9110 §10.1.1", "an origin that does not know of 100-continue gets the body after a moment")
async def test_an_origin_that_waits_for_the_body(passing: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONTINUE_LIMIT", 0.01)
    passing.on("/p", page("thanks"))
    visitor = await asking(passing)
    assert (await visitor.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    visitor.writer.write(b"hello")
    assert (await visitor.reply()).text == "thanks"
    assert passing.last.body == b"hello"


@requires("RFC 9110 §10.1.1", "a 100 of the origin that comes after ours is not said twice")
async def test_one_100(passing: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONTINUE_LIMIT", 0.01)

    async def script(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.send(head(100))
        await exchange.run(page("thanks"))

    passing.on("/p", script)
    visitor = await asking(passing)
    await visitor.reader.readuntil(b"\r\n\r\n")
    visitor.writer.write(b"hello")
    assert (await visitor.reply()).interim == ()


@requires("RFC 9110 §10.1.1", "who sends the body along is not told to go on, and loses no time")
async def test_a_body_that_comes_along(passing: Site) -> None:
    passing.on("/p", page("thanks"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(
        b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    )
    reply = await visitor.reply()
    assert (reply.text, reply.interim) == ("thanks", ())


@requires("RFC 9110 §10.1.1", "an expectation in HTTP/1.0 is ignored")
async def test_http_10(passing: Site) -> None:
    passing.on("/p", page("thanks"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"POST /p HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    visitor.writer.write(b"hello")
    raw = await visitor.reader.read()
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert passing.last.header("expect") is None


@requires("RFC 9110 §10.1.1", "another expectation is the origin's to refuse")
async def test_other_expectations(passing: Site) -> None:
    passing.on("/p", page("no", status=417))
    assert (await passing.get("/p", {"Expect": "teapot"})).status == 417
    assert passing.last.header("expect") == "teapot"


@requires("RFC 9110 §10.1.1", "an answer that comes while the body is still sent gets through")
async def test_an_early_answer(passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read(10)
        await exchange.run([*page("too much", status=413), Close()])

    passing.on("/p", script)
    for _ in range(20):
        visitor = await passing.proxy.visitor()
        visitor.send("/p", {"Content-Length": "10000000"}, method="PUT")
        visitor.writer.write(b"x" * 1_000_000)
        reply = await visitor.reply()
        assert (reply.status, reply.text) == (413, "too much")
        visitor.reset()
