"""TLS for visitors: handshakes, names, certificates that change, and who means no good."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key
from isr_proxy.core.settings import Settings
from isr_proxy.errors import ConfigError
from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker
from isr_proxy.store.base import Entry
from tests.harness import FakeClock, Proxy, Visitor, config, eventually
from tests.http.requirements import requires
from tests.http.test_limits_head import is_counted
from tests.pem import Authority, Pair
from tests.scripted_origin import Close, Exchange, ScriptedOrigin, Send, Wait, head, page

ROUTE = "- {match: /pass/**, revalidate: 0}\n- {match: '/**', revalidate: 10s}"
SITE = "site.example"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Pair:
    return ca.sign(SITE, "www.site.example")


@dataclass
class Secure:
    """A proxy that speaks TLS, its origin, and the file of its config."""

    proxy: Proxy
    origin: ScriptedOrigin
    file: Path
    is_stopped: bool = False

    @property
    def port(self) -> int:
        port = urlsplit(self.proxy.url).port
        assert port is not None
        return port

    async def visitor(self, context: ssl.SSLContext, name: str = SITE) -> Visitor:
        """Shake hands, asking for a name."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name, limit=2**20
        )
        visitor = Visitor(reader, writer, host=name)
        self.proxy.visitors.append(visitor)
        return visitor

    async def plain(self) -> Visitor:
        """Connect without a handshake."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        visitor = Visitor(reader, writer)
        self.proxy.visitors.append(visitor)
        return visitor

    async def stop(self) -> None:
        """Drain, once."""
        if not self.is_stopped:
            self.is_stopped = True
            await self.proxy.worker.stop(drain=3.0)

    @property
    def count(self) -> int:
        return self.proxy.worker.front.door.count


def text_of(origin: str, store: Path, tls: str, more: str = "") -> str:
    plain = config(origin, store, ROUTE, more=more)
    return plain.replace("listen: 127.0.0.1:0", f"listen: [{{address: '127.0.0.1:0', tls: {tls}}}]", 1)


@asynccontextmanager
async def secure(folder: Path, tls: str, more: str = "") -> AsyncIterator[Secure]:
    """Run an origin and a proxy with this `tls`."""
    file = folder / "isr.yaml"
    async with ScriptedOrigin() as origin:
        file.write_text(text_of(origin.url, folder / "store", tls, more))

        def load() -> Settings:
            return parse(file.read_text(), file=str(file), environ={})

        worker = await Worker.start(load(), now=FakeClock(), load=load)
        proxy = Proxy(worker, FakeClock())
        try:
            yield (at := Secure(proxy, origin, file))
        finally:
            for visitor in proxy.visitors:
                visitor.writer.close()
            await at.stop()


def name_shown(visitor: Visitor) -> str:
    """Return the first host name of the certificate that a visitor was shown."""
    return str(visitor.writer.get_extra_info("peercert")["subjectAltName"][0][1])


# --- the protocol ---


async def scenario(folder: Path, ca: Authority, tls: str) -> None:
    """Ask for pages of all kinds over TLS."""
    async with secure(folder, tls) as site:
        big = b"x" * 900_000
        site.origin.on("/p", page("hello"))
        site.origin.on("/big", page(big))

        async def echo(exchange: Exchange) -> None:
            await exchange.run(page(await exchange.body()))

        site.origin.on("/pass/echo", echo)
        assert site.proxy.url.startswith("https://127.0.0.1:")
        visitor = await site.visitor(ca.trusting())
        assert visitor.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert [(await visitor.get("/p")).text for _ in range(2)] == ["hello", "hello"]
        for _ in range(2):
            assert (await visitor.get("/big")).body == big
        visitor.writer.write(b"POST /pass/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + big)
        assert (await visitor.reply()).body == big
        await visitor.close()
        await eventually(lambda: site.count == 0)


@requires("RFC 9110 §4.2.2", "pages are served over TLS, offering HTTP/1.1 only (RFC 7301)")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_pages_over_tls(run: object, tmp_path: Path, ca: Authority, site: Pair) -> None:
    assert callable(run)
    run(scenario(tmp_path, ca, site.yaml()))


@requires("RFC 9110 §4.2.2", "https is the scheme of the key, and what the origin is told")
async def test_the_scheme(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml()) as at:
        at.origin.on("/p", page("hello"))
        await (await at.visitor(ca.trusting())).get("/p")
        assert at.origin.requests[0].header("x-forwarded-proto") == "https"
        await at.proxy.settled()
        key = Key("https", SITE, "/p", None)
        assert isinstance(await at.proxy.worker.store.lookup(key, Fields()), Entry)


@requires("RFC 6066 §3", "the certificate is the one for the name that is asked for")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (SITE, SITE),
        ("www.site.example", SITE),
        ("SHOP.example", "shop.example"),
        ("a.wild.example", "*.wild.example"),
        ("stranger.example", SITE),
    ],
)
async def test_names(tmp_path: Path, ca: Authority, site: Pair, name: str, shown: str) -> None:
    others = ", ".join(ca.sign(other).yaml() for other in ("shop.example", "*.wild.example"))
    tls = f"{{certificate: {site.certificate}, key: {site.key}, sni: [{others}]}}"
    async with secure(tmp_path, tls) as at:
        context = ca.trusting()
        context.check_hostname = False
        assert name_shown(await at.visitor(context, name)) == shown


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@requires("RFC 8996 §5", "TLS 1.1 and older are not spoken; the oldest version can be raised")
@pytest.mark.parametrize(("oldest", "refused"), [("1.2", "TLSv1_1"), ("1.3", "TLSv1_2")])
async def test_old_versions(tmp_path: Path, ca: Authority, site: Pair, oldest: str, refused: str) -> None:
    tls = f"{{certificate: {site.certificate}, key: {site.key}, min_version: {oldest}}}"
    async with secure(tmp_path, tls) as at:
        context = ca.trusting()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion[refused]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await at.visitor(context)
        await at.visitor(ca.trusting())


@requires("RFC 8446 §4.3.2", "where visitors must show a certificate, nobody without one gets an answer")
async def test_certificates_of_visitors(tmp_path: Path, ca: Authority, site: Pair) -> None:
    visitors = Authority.make(tmp_path, "visitors")
    tls = f"{{certificate: {site.in_one_file()}, client_ca: {visitors.own.certificate}}}"
    async with secure(tmp_path, tls) as at:
        known = await at.visitor(ca.trusting(shown=visitors.sign("somebody")))
        assert (await known.get("/p")).status == 404
        for stranger in (ca.trusting(), ca.trusting(shown=ca.sign("stranger"))):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await (await at.visitor(stranger)).get("/p")


# --- certificates that change ---


@requires("RFC 8446 §4.4.2", "a reload shows the new certificate to who comes, and leaves who is there")
async def test_a_new_certificate(tmp_path: Path, ca: Authority) -> None:
    pair = ca.sign("old.example", file="changing")
    context = ca.trusting()
    context.check_hostname = False
    async with secure(tmp_path, pair.yaml()) as at:
        before = await at.visitor(context)
        assert name_shown(before) == "old.example"
        ca.sign("new.example", file="changing")
        assert name_shown(await at.visitor(context)) == "old.example"
        await at.proxy.worker.reload()
        assert name_shown(await at.visitor(context)) == "new.example"
        assert (await before.get("/p")).status == 404


@requires("RFC 8446 §4.4.2", "a bad new certificate leaves the old one, and says so")
async def test_a_bad_new_certificate(tmp_path: Path, ca: Authority) -> None:
    pair = ca.sign(SITE, file="spoiled")
    async with secure(tmp_path, pair.yaml()) as at:
        pair.certificate.write_text("not a certificate")
        with pytest.raises(ConfigError) as caught:
            await at.proxy.worker.reload()
        assert "listen[0].tls.certificate: the file has no certificate in PEM" in str(caught.value)
        assert (await (await at.visitor(ca.trusting())).get("/p")).status == 404


# --- who means no good ---


@requires("RFC 9110 §15.5.1", "plain HTTP to a TLS address gets a plain 400")
async def test_plain_http(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml()) as at:
        visitor = await at.plain()
        reply = await visitor.get("/p")
        assert (reply.status, reply.headers["x-cache-reason"]) == (400, "plain-http")
        assert await visitor.reader.read() == b""
        assert is_counted(at.proxy, "plain-http")
        await eventually(lambda: at.count == 0)
        assert at.origin.requests == []


@requires("Attack: slow handshake", "who does not shake hands is counted, and gone after handshake_timeout")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "begun"])
def test_half_a_handshake(run: object, tmp_path: Path, ca: Authority, site: Pair, sent: bytes) -> None:
    async def ask() -> None:
        async with secure(tmp_path, site.yaml(), "limits: {handshake_timeout: 300ms}\n") as at:
            visitor = await at.plain()
            visitor.writer.write(sent)
            await eventually(lambda: at.count == 1)
            assert await visitor.reader.read() == b""
            await eventually(lambda: at.count == 0)
            assert (await (await at.visitor(ca.trusting())).get("/p")).status == 404

    assert callable(run)
    run(ask())


@requires("Attack: slow handshake", "who hangs up in the middle of his handshake is not counted any more")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "begun"])
def test_a_handshake_that_breaks_off(
    run: object, tmp_path: Path, ca: Authority, site: Pair, sent: bytes
) -> None:
    async def ask() -> None:
        async with secure(tmp_path, site.yaml()) as at:
            visitor = await at.plain()
            visitor.writer.write(sent)
            await eventually(lambda: at.count == 1)
            visitor.reset()
            await eventually(lambda: at.count == 0)

    assert callable(run)
    run(ask())


@requires("RFC 8446 §6.1", "a drain ends handshakes under way and lets answers end")
async def test_a_drain(tmp_path: Path, ca: Authority, site: Pair) -> None:
    release = asyncio.Event()
    async with secure(tmp_path, site.yaml()) as at:
        at.origin.on("/p", [Wait(release), *page("hello")])
        shaking, visitor = await at.plain(), await at.visitor(ca.trusting())
        visitor.send("/p")
        await at.origin.received(1)
        stopping = asyncio.ensure_future(at.stop())
        await asyncio.sleep(0)
        release.set()
        reply = await visitor.reply()
        assert (reply.text, reply.headers["connection"]) == ("hello", "close")
        await stopping
        assert await shaking.reader.read() == b""


@requires("Attack: slow handshake", "handshakes count against max_connections; who is too many is closed")
async def test_too_many_handshakes(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml(), "limits: {max_connections: 2}\n") as at:
        shaking = [await at.plain() for _ in range(2)]
        await eventually(lambda: at.count == 2)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await at.visitor(ca.trusting())
        assert is_counted(at.proxy, "too-many-connections")
        await shaking[0].close()
        await eventually(lambda: at.count == 1)
        assert (await (await at.visitor(ca.trusting())).get("/p")).status == 404


@requires("Attack: garbage on a TLS address", "neither crash nor hang, and nobody else notices")
@pytest.mark.parametrize("garbage", [b"\x00\xff" * 1000, b"\x16" + b"\xff" * 5000, b"\x80\x2e\x01\x03\x01"])
async def test_garbage(tmp_path: Path, ca: Authority, site: Pair, garbage: bytes) -> None:
    async with secure(tmp_path, site.yaml()) as at:
        honest = await at.visitor(ca.trusting())
        visitor = await at.plain()
        visitor.writer.write(garbage)
        try:
            await visitor.reader.read()
        except ConnectionError:
            pass
        await eventually(lambda: at.count == 1)
        assert (await honest.get("/p")).status == 404


@requires("RFC 9110 §15.5.14", "over TLS too, who goes on sending gets his 413")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_413_over_tls(run: object, tmp_path: Path, ca: Authority, site: Pair) -> None:
    async def ask() -> None:
        async with secure(tmp_path, site.yaml(), "limits: {max_body: 1KB}\n") as at:
            visitor = await at.visitor(ca.trusting())
            visitor.writer.write(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
            visitor.writer.write(b"x" * 2_000_000)
            assert (await visitor.reply()).status == 413

    assert callable(run)
    run(ask())


@requires("RFC 6455 §4.2.2", "a WebSocket over TLS is a tunnel")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_tunnel_over_tls(run: object, tmp_path: Path, ca: Authority, site: Pair) -> None:
    async def upgrade(exchange: Exchange) -> None:
        await exchange.send(head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}))
        await exchange.send(b"you said " + await exchange.reader.readexactly(2))
        await exchange.hang()

    async def ask() -> None:
        async with secure(tmp_path, site.yaml()) as at:
            at.origin.on("/ws", upgrade)
            visitor = await at.visitor(ca.trusting())
            asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
            assert (await visitor.get("/ws", asked)).status == 101
            visitor.writer.write(b"hi")
            assert await visitor.reader.readexactly(11) == b"you said hi"
            await visitor.close()
            await eventually(lambda: at.count == 0)

    assert callable(run)
    run(ask())


@requires("Attack: slow reading", "over TLS too, who asks and does not read is written one answer")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_unread_answers_over_tls(run: object, tmp_path: Path, ca: Authority, site: Pair) -> None:
    big = b"x" * 9_000_000

    async def ask() -> None:
        async with secure(tmp_path, site.yaml()) as at:
            at.origin.on("/big", page(big))
            await (await at.visitor(ca.trusting())).get("/big")
            before = set(at.proxy.worker.front.connections)
            visitor = await at.visitor(ca.trusting())
            await eventually(lambda: at.proxy.worker.front.connections - before)
            (connection,) = at.proxy.worker.front.connections - before
            visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(5):
                visitor.send("/big")
            await eventually(lambda: connection.writing_paused)
            for _ in range(5):
                await (await at.visitor(ca.trusting())).get("/other")
            assert connection.transport is not None
            assert connection.transport.get_write_buffer_size() <= len(big) + 100_000
            connection.expire()
            connection.expire()
            await eventually(lambda: connection not in at.proxy.worker.front.connections)

    assert callable(run)
    run(ask())


@requires("RFC 9110 §15.5.9", "over TLS too, a head that does not end gets 408")
async def test_408_over_tls(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml(), "limits: {head_timeout: 300ms}\n") as at:
        visitor = await at.visitor(ca.trusting())
        visitor.writer.write(b"GET / HT")
        assert (await visitor.reply()).status == 408


@requires("RFC 9112 §9.8", "an answer that cannot be completed is not ended in order")
async def test_a_cut_answer_over_tls(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml()) as at:
        at.origin.on("/pass/cut", [Send(head(200, {"Content-Length": "9"}) + b"half"), Close()])
        reply = await (await at.visitor(ca.trusting())).get("/pass/cut")
        assert (reply.body, reply.is_whole) == (b"half", False)


def ask(port: int, context: ssl.SSLContext) -> socket.socket:
    """Ask once, and read no further: not even a goodbye."""
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="site.example")
    tls.sendall(b"GET /p HTTP/1.1\r\nHost: site.example\r\n\r\n")
    tls.recv(65536)
    return tls


@requires("RFC 9112 §9.5", "who gives way for another is gone, also if he does not answer the goodbye")
async def test_giving_way_over_tls(tmp_path: Path, ca: Authority, site: Pair) -> None:
    async with secure(tmp_path, site.yaml(), "limits: {max_connections: 2}\n") as at:
        at.origin.on("/p", page("hi"))
        front = at.proxy.worker.front
        asked = [await asyncio.to_thread(ask, at.port, ca.trusting()) for _ in range(6)]
        await eventually(lambda: len(front.connections) <= 2)
        for each in asked:
            each.close()
