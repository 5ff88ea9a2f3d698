"""Attack: fat GET. A body that the key does not know changes the page of a GET.

FIELD.md section 4.2: a GET with a body is never looked up or stored; it passes, as what it is.
"""

from __future__ import annotations

import pytest

from tests.http.attacking import WAYS, Attack, Scene, answered, get, owed, table
from tests.http.requirements import requires

BODY = b"callback=evil"
FORM = b"Content-Type: application/x-www-form-urlencoded"
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@requires(
    "Attack: fat GET", "a GET or HEAD with a body passes: it is not answered from the store, nor stored"
)
@table(
    Attack("length", get(LENGTH, FORM, body=BODY)),
    Attack("chunked", get(b"Transfer-Encoding: chunked", FORM, body=CHUNKED)),
    Attack("HEAD", get(LENGTH, FORM, body=BODY, method=b"HEAD")),
    Attack("override", get(LENGTH, FORM, b"X-HTTP-Method-Override: POST", body=BODY)),
    Attack("nominated", get(LENGTH, FORM, b"Connection: content-length", body=BODY)),
    Attack("expected", get(LENGTH, FORM, b"Expect: 100-continue", body=BODY)),
    Attack("absolute form", get(LENGTH, target=b"http://site.examplePATH", body=BODY)),
    Attack("HTTP/1.0", get(LENGTH, FORM, body=BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
)
async def test_fat_get(scene: Scene, attack: Attack) -> None:
    await scene.harmless(attack)
    fat = [request for request in scene.origin.requests if request.header("content-type")]
    assert all(request.body == BODY for request in fat if request.header("content-type"))


@requires("Attack: fat GET", "a body does not get the stored page, which was not made for it")
@pytest.mark.parametrize("way", WAYS)
async def test_not_looked_up(scene: Scene, way: str) -> None:
    target = f"/{way}/target"
    await scene.honest(target)
    reply = await scene.ask(get(LENGTH, target=target.encode(), body=BODY))
    assert (reply.x_cache, reply.body) == ("PASS", owed(target) + BODY)
    await scene.honest(target)


@requires("Attack: fat GET", "an empty body is no body")
@pytest.mark.parametrize("way", ["isr", "shared"])
async def test_empty_body(scene: Scene, way: str) -> None:
    target = f"/{way}/target"
    await scene.honest(target)
    reply = await scene.ask(get(b"Content-Length: 0", target=target.encode()))
    assert (reply.x_cache, reply.body) == ("HIT", owed(target))


@requires("Attack: fat GET", "a body that comes in pieces is one body, with an honest request behind it")
@pytest.mark.parametrize("way", WAYS)
async def test_in_pieces(scene: Scene, way: str) -> None:
    raw = get(LENGTH, target=f"/{way}/target".encode(), body=BODY) + get(target=b"/pass/behind")
    visitor = await scene.proxy.visitor()
    for byte in raw:
        visitor.writer.write(bytes((byte,)))
        await visitor.writer.drain()
    assert (await answered(visitor)).body == owed(f"/{way}/target") + BODY
    assert (await answered(visitor)).body == owed("/pass/behind")
    await scene.nobody_else_is_hit()
