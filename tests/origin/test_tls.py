"""TLS to origins as the config says: whom to trust, what to show, which name to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import OriginSettings, OriginTls
from isr_proxy.origin.client import Client
from tests.origin.asking import body_of, failure, get
from tests.pem import Authority, Pair, server
from tests.scripted_origin import ScriptedOrigin, page


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(ca: Authority) -> Pair:
    return ca.sign("origin.test")


@asynccontextmanager
async def asked(origin: ScriptedOrigin, host: str | None = None, **tls: object) -> AsyncIterator[Client]:
    client = Client(OriginSettings((origin.url,), host, tls=OriginTls(**tls)))  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_ca_of_ones_own(ca: Authority, pair: Pair) -> None:
    async with ScriptedOrigin(server(pair)) as origin:
        origin.on("/", page("secret"))
        async with asked(origin, "origin.test", ca=str(ca.own.certificate)) as client:
            assert await body_of(client, get()) == b"secret"
        async with asked(origin, "origin.test") as client:
            assert await failure(client, get()) is Reason.TLS_FAILED


async def test_the_server_name_is_asked_for_and_wanted(ca: Authority, pair: Pair) -> None:
    names: list[str | None] = []
    context = server(pair)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    trusted = str(ca.own.certificate)
    async with ScriptedOrigin(context) as origin:
        origin.on("/", page("secret"))
        async with asked(origin, "shown.example", ca=trusted, server_name="origin.test") as client:
            assert await body_of(client, get()) == b"secret"
        async with asked(origin, "origin.test", ca=trusted, server_name="other.test") as client:
            assert await failure(client, get()) is Reason.TLS_FAILED
        assert names == ["origin.test", "other.test"]
        assert origin.requests[0].header("host") == "example.org"


async def test_a_certificate_is_shown_to_the_origin(ca: Authority, pair: Pair) -> None:
    proxies = Authority.make(ca.folder, "proxies")
    shown = proxies.sign("proxy")
    async with ScriptedOrigin(server(pair, proxies)) as origin:
        origin.on("/", page("secret"))
        files = {"certificate": str(shown.certificate), "key": str(shown.key)}
        for tls in (files, {"certificate": str(shown.in_one_file())}):
            async with asked(origin, "origin.test", ca=str(ca.own.certificate), **tls) as client:
                assert await body_of(client, get()) == b"secret"
        async with asked(origin, "origin.test", ca=str(ca.own.certificate)) as client:
            # In TLS 1.3 the client is done before the server has looked at its certificate.
            assert await failure(client, get()) in (Reason.TLS_FAILED, Reason.RESET)


async def test_nothing_is_verified_where_that_is_said(pair: Pair) -> None:
    async with ScriptedOrigin(server(pair)) as origin, asked(origin, verify=False) as client:
        origin.on("/", page("secret"))
        assert await body_of(client, get()) == b"secret"


async def test_an_expired_certificate_is_refused(ca: Authority) -> None:
    old = ca.sign("origin.test", days=-1, file="expired")
    trusted = str(ca.own.certificate)
    async with ScriptedOrigin(server(old)) as origin, asked(origin, "origin.test", ca=trusted) as client:
        assert await failure(client, get()) is Reason.TLS_FAILED


async def test_a_handshake_that_hangs_is_a_connect_timeout() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        client = Client(OriginSettings((f"https://127.0.0.1:{port}",), connect_timeout=0.2))
        assert await failure(client, get()) is Reason.CONNECT_TIMEOUT
        await client.aclose()
