"""Ways to an origin: TLS, unix sockets, addresses."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from isr_proxy.core.reason import Reason
from isr_proxy.origin.endpoint import TcpEndpoint, UnixEndpoint, default_tls, parse_endpoint
from tests.origin.asking import asking, body_of, failure, get
from tests.scripted_origin import Close, ScriptedOrigin, Send, chunked, head, page


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for origin.test; key and certificate in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "origin.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    )
    names = ["-addext", "subjectAltName=DNS:origin.test", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    return pem


def _server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _trusting(certificate: Path) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = default_tls()
        context.load_verify_locations(certificate)
        return context

    return make


async def test_tls_with_the_configured_name(certificate: Path) -> None:
    names: list[str | None] = []
    context = _server(certificate)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    tls = _trusting(certificate)
    async with (
        ScriptedOrigin(context) as origin,
        asking(origin.url, host="origin.test:443", tls=tls) as client,
    ):
        origin.on("/", page("secret"), chunked(b"x" * 100_000), [Send(head(200) + b"to the end"), Close()])
        assert await body_of(client, get()) == b"secret"
        assert await body_of(client, get()) == b"x" * 100_000
        assert await body_of(client, get()) == b"to the end"
        assert (names, origin.connections) == (["origin.test"], 1)


async def test_tls_with_another_name_fails(certificate: Path) -> None:
    tls = _trusting(certificate)
    async with ScriptedOrigin(_server(certificate)) as origin, asking(origin.url, tls=tls) as client:
        assert await failure(client, get()) is Reason.TLS_FAILED
        assert not origin.requests


async def test_tls_that_nobody_signed_fails(certificate: Path) -> None:
    async with (
        ScriptedOrigin(_server(certificate)) as origin,
        asking(origin.url, host="origin.test") as client,
    ):
        assert await failure(client, get()) is Reason.TLS_FAILED


async def test_tls_to_an_origin_without_it_fails() -> None:
    def speak_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(400))
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asking(f"https://127.0.0.1:{port}") as client:
            assert await failure(client, get()) is Reason.TLS_FAILED


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with ScriptedOrigin(unix_path=str(tmp_path / "o.sock")) as origin, asking(origin.url) as client:
        origin.on("/", page("near"))
        assert [await body_of(client, get()) for _ in range(2)] == [b"near", b"near"]
        assert (origin.connections, origin.requests[0].header("host")) == (1, "example.org")


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    async with asking(f"unix:{tmp_path}/missing.sock") as client:
        assert await failure(client, get()) is Reason.REFUSED


async def test_the_address_that_answers_is_taken() -> None:
    # localhost is ::1 and 127.0.0.1 on many machines; the origin listens on the second only.
    async with ScriptedOrigin() as origin, asking(f"http://localhost:{origin.port}") as client:
        origin.on("/", page("found"))
        assert await body_of(client, get()) == b"found"


def test_urls_are_read() -> None:
    def refuse() -> ssl.SSLContext:
        raise AssertionError("no TLS here")

    assert parse_endpoint("http://Origin.test", None, refuse) == TcpEndpoint("origin.test", 80)
    assert parse_endpoint("http://[::1]:3000", "x.test", refuse) == TcpEndpoint("::1", 3000)
    assert parse_endpoint("unix:/run/app.sock", None, refuse) == UnixEndpoint("/run/app.sock")
    context = default_tls()
    tls = parse_endpoint("https://a.test", "b.test:8443", lambda: context)
    assert tls == TcpEndpoint("a.test", 443, context, "b.test")
