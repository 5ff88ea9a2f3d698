"""Attack: smuggling, from the other side. What an origin sends must not become somebody else's answer.

An application that writes a visitor's text into a header, or an origin that frames its answers badly, must
not be able to give one visitor's bytes to the next: not over a kept connection, not through the store.
"""

from __future__ import annotations

import pytest

from tests.harness import Reply
from tests.http.attacking import WAYS, Scene, owed
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, Send

FRESH = b"Cache-Control: max-age=60\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n" + FRESH + b"\r\nevil"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: 5\r\n"
ENDED = b"5\r\nhello\r\n0\r\n\r\n"


def answer(fields: bytes, body: bytes = b"hello", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return line + b"\r\n" + FRESH + fields + b"\r\n" + body


def rows(**answers: bytes) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in answers.items()])


async def served(scene: Scene, way: str, raw: bytes) -> Reply:
    """Have the origin say this once; whoever comes next, on any path, gets what he is owed."""

    async def honest(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.send(answer(b"Content-Length: %d\r\n" % len(good), good))

    target = f"/{way}/target"
    good = owed(target)
    scene.origin.on(target, [Send(raw)], honest)
    visitor = await scene.proxy.visitor()
    reply = await visitor.get(target)
    await scene.proxy.settled()
    if reply.headers.get("connection") != "close" and reply.is_whole:
        await honest_behind(scene, await visitor.get(f"/{way}/behind"), f"/{way}/behind")
    await scene.honest(f"/{way}/honest")
    return reply


async def honest_behind(scene: Scene, reply: Reply, target: str) -> None:
    await scene.proxy.settled()
    assert (reply.status, reply.body) == (200, owed(target))


@requires("Attack: smuggling", "an answer that could be delimited in two ways is 502, its connection closed")
@rows(
    both_lengths=answer(LENGTH + CHUNKED, ENDED + EVIL),
    both_the_other_way_round=answer(CHUNKED + LENGTH, ENDED + EVIL),
    two_lengths=answer(LENGTH + b"Content-Length: 0\r\n", b"hello" + EVIL),
    two_equal_lengths=answer(LENGTH + LENGTH),
    a_list=answer(b"Content-Length: 5, 5\r\n"),
    negative=answer(b"Content-Length: -5\r\n"),
    plus=answer(b"Content-Length: +5\r\n"),
    hex=answer(b"Content-Length: 0x5\r\n"),
    empty=answer(b"Content-Length: \r\n"),
    vertical_tab=answer(b"Content-Length: \x0b5\r\n"),
    two_to_the_64_less_1=answer(b"Content-Length: 18446744073709551615\r\n"),
    two_to_the_64_and_5=answer(b"Content-Length: 18446744073709551621\r\n"),
    coding_twice=answer(CHUNKED + b"Transfer-Encoding: identity\r\n", ENDED),
    coding_twice_the_other_way_round=answer(b"Transfer-Encoding: identity\r\n" + CHUNKED, ENDED),
    same_coding_twice=answer(CHUNKED + CHUNKED, ENDED),
    chunked_is_not_last=answer(b"Transfer-Encoding: chunked, identity\r\n", ENDED),
    unknown_coding=answer(b"Transfer-Encoding: xchunked\r\n", ENDED),
    coding_not_asked_for=answer(b"Transfer-Encoding: gzip, chunked\r\n", ENDED),
    coding_behind_a_vertical_tab=answer(b"Transfer-Encoding: \x0bchunked\r\n", ENDED),
    blank_before_the_colon=answer(b"Transfer-Encoding : chunked\r\n", ENDED),
    length_on_an_indented_line=b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\nhello",
    not_asked_to_switch=answer(b"Upgrade: x\r\nConnection: upgrade\r\n", EVIL, b"HTTP/1.1 101 Switching"),
    switched_in_an_interim=b"HTTP/1.1 101 Switching\r\n\r\n" + answer(LENGTH),
)
@pytest.mark.parametrize("way", WAYS)
async def test_doubtful_framings(scene: Scene, way: str, raw: bytes) -> None:
    assert (await served(scene, way, raw)).status == 502
    await scene.honest(f"/{way}/target")


@requires(
    "Attack: smuggling",
    "a line that somebody's text slipped into an answer's head is never a header",
)
@rows(
    bare_cr=answer(b"X-Name: x\rSet-Cookie: evil=1\r\n" + LENGTH),
    bare_lf=answer(b"X-Name: x\nSet-Cookie: evil=1\r\n" + LENGTH),
    bare_lf_ends_the_head=answer(b"X-Name: x\n\nevil\r\n" + LENGTH),
    cr_cr_lf=answer(b"X-Name: x\r\r\nSet-Cookie: evil=1\r\n" + LENGTH),
    nul=answer(b"X-Name: x\x00y\r\n" + LENGTH),
    control=answer(b"X-Name: x\x01y\r\n" + LENGTH),
    delete=answer(b"X-Name: x\x7fy\r\n" + LENGTH),
    cr_in_the_reason=answer(LENGTH, line=b"HTTP/1.1 200 O\rSet-Cookie: evil=1"),
    nul_in_the_reason=answer(LENGTH, line=b"HTTP/1.1 200 O\x00K"),
    nul_in_a_name=answer(b"X-\x00Name: x\r\n" + LENGTH),
    blank_in_a_name=answer(b"X Name: x\r\n" + LENGTH),
    no_colon=answer(b"garbage\r\n" + LENGTH),
    no_name=answer(b": x\r\n" + LENGTH),
    interim_with_a_bare_cr=b"HTTP/1.1 103 Hints\r\nLink: x\ry\r\n\r\n" + answer(LENGTH),
)
@pytest.mark.parametrize("way", WAYS)
async def test_lines_slipped_in(scene: Scene, way: str, raw: bytes) -> None:
    reply = await served(scene, way, raw)
    assert (reply.status, "set-cookie" in reply.headers) == (502, False)
    await scene.honest(f"/{way}/target")


@requires("Attack: smuggling", "what does not begin as an answer of HTTP/1.x is 502")
@rows(
    http_2=answer(LENGTH, line=b"HTTP/2.0 200 OK"),
    http_1_2=answer(LENGTH, line=b"HTTP/1.2 200 OK"),
    http_0_9=b"hello, this is HTTP/0.9\r\n\r\n",
    lower_case=answer(LENGTH, line=b"http/1.1 200 OK"),
    shoutcast=answer(LENGTH, line=b"ICY 200 OK"),
    rtsp=answer(LENGTH, line=b"RTSP/1.0 200 OK"),
    four_digits=answer(LENGTH, line=b"HTTP/1.1 2000 OK"),
    two_digits=answer(LENGTH, line=b"HTTP/1.1 20 OK"),
    zero=answer(LENGTH, line=b"HTTP/1.1 000 OK"),
    negative=answer(LENGTH, line=b"HTTP/1.1 -200 OK"),
    word_before=b"x" + answer(LENGTH),
    endless_interims=b"HTTP/1.1 103 Hints\r\n\r\n" * 200 + answer(LENGTH),
    large_head=answer(b"X-Large: " + b"x" * 40_000 + b"\r\n" + LENGTH),
)
@pytest.mark.parametrize("way", WAYS)
async def test_doubtful_status_lines(scene: Scene, way: str, raw: bytes) -> None:
    assert (await served(scene, way, raw)).status == 502
    await scene.honest(f"/{way}/target")


@requires("Attack: smuggling", "a chunked answer delimited badly never looks whole, and is not stored")
@rows(
    hex_prefix=answer(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    negative=answer(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    overflow=answer(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    bytes_between=answer(CHUNKED, b"5\r\nhelloXX0\r\n\r\n"),
    lf_ends_the_size=answer(CHUNKED, b"5\nhello\r\n0\r\n\r\n"),
    lf_in_an_extension=answer(CHUNKED, b"5;x=\n\r\nhello\r\n0\r\n\r\n"),
    cr_and_anything=answer(CHUNKED, b"5\rX\nhello\r\n0\r\n\r\n"),
    length_in_the_trailer=answer(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    bad_trailer=answer(CHUNKED, b"5\r\nhello\r\n0\r\nno colon\r\n\r\n"),
)
@pytest.mark.parametrize("way", WAYS)
async def test_broken_chunks(scene: Scene, way: str, raw: bytes) -> None:
    reply = await served(scene, way, raw)
    assert reply.status == 502 or not reply.is_whole
    await scene.honest(f"/{way}/target")


@requires("Attack: smuggling", "what an origin sends behind an answer is nobody's answer")
@rows(
    behind_a_length=answer(LENGTH, b"hello" + EVIL),
    behind_a_chunked_body=answer(CHUNKED, ENDED + EVIL),
    behind_a_trailer=answer(CHUNKED, b"5\r\nhello\r\n0\r\nSet-Cookie: evil=1\r\n\r\n" + EVIL),
    two_at_once=answer(LENGTH) + EVIL + EVIL,
    behind_a_length_of_zero=answer(b"Content-Length: 0\r\n", EVIL),
    behind_204=answer(b"", EVIL, b"HTTP/1.1 204 No Content"),
    behind_204_with_a_length=answer(b"Content-Length: %d\r\n" % len(EVIL), EVIL, b"HTTP/1.1 204 No Content"),
    behind_204_chunked=answer(CHUNKED, ENDED + EVIL, b"HTTP/1.1 204 No Content"),
)
@pytest.mark.parametrize("way", WAYS)
async def test_behind_an_answer(scene: Scene, way: str, raw: bytes) -> None:
    reply = await served(scene, way, raw)
    assert reply.status in (200, 204)
    assert b"evil" not in reply.body
    assert "set-cookie" not in reply.headers


@requires("Attack: smuggling", "a body that came with an answer to HEAD, or with a 304, is nobody's answer")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200 OK"), ("GET", b"304 Not Modified")])
async def test_bodies_that_must_not_be(scene: Scene, way: str, method: str, status: bytes) -> None:
    raw = answer(b'Content-Length: %d\r\nETag: "a"\r\n' % len(EVIL), EVIL, b"HTTP/1.1 " + status)
    scene.origin.on(f"/{way}/target", [Send(raw)])
    visitor = await scene.proxy.visitor()
    reply = await visitor.get(f"/{way}/target", {"If-None-Match": '"a"'}, method=method)
    assert b"evil" not in reply.body or way != "pass"
    await scene.proxy.settled()
    await honest_behind(scene, await visitor.get(f"/{way}/behind"), f"/{way}/behind")
    await scene.honest(f"/{way}/honest")


@requires("Attack: smuggling", "an answer that nobody asked for is thrown away (response queue poisoning)")
@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_out_of_turn(scene: Scene, way: str) -> None:
    """It comes while the connection is idle, which closes it; the next request takes a new one."""

    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(answer(LENGTH))
        await scene.proxy.settled()
        await exchange.send(EVIL)
        await exchange.hang()

    scene.origin.on(f"/{way}/twice", answer_twice)
    await scene.proxy.get(f"/{way}/twice")
    await scene.origin.until(lambda: scene.origin.open_now == 0)
    await scene.honest(f"/{way}/honest")


@requires(
    "Attack: smuggling",
    "a 204 that announces a body ends its connection",
)
@pytest.mark.parametrize("announced", [LENGTH, CHUNKED])
async def test_a_204_with_a_body(scene: Scene, announced: bytes) -> None:
    scene.origin.on("/pass/target", [Send(answer(announced, b"", b"HTTP/1.1 204 No Content"))])
    assert (await scene.proxy.get("/pass/target")).status == 204
    await scene.honest("/pass/honest")
    assert scene.origin.connections == 2


@requires("Attack: smuggling", "what an answer names in Connection is not forwarded, and its framing is ours")
@pytest.mark.parametrize("way", WAYS)
async def test_nominated_by_the_origin(scene: Scene, way: str) -> None:
    named = b"Connection: content-length, x-secret\r\nX-Secret: 1\r\n"
    reply = await served(scene, way, answer(named + LENGTH))
    assert (reply.status, reply.text, reply.headers["content-length"]) == (200, "hello", "5")
    assert "x-secret" not in reply.headers
