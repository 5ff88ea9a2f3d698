"""Addresses that are taken, left behind or given away: unix sockets on both sides, and reloads of TLS."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import uvloop

from isr_proxy.core.settings import TcpAddress
from isr_proxy.errors import ConfigError
from isr_proxy.run.config import parse
from isr_proxy.run.sockets import bind
from isr_proxy.run.worker import Worker
from tests.harness import FakeClock, Reply, Visitor, config
from tests.pem import Authority, server
from tests.scripted_origin import ScriptedOrigin, page

ROUTE = "- {match: '/**', revalidate: 10s}"


def on_socket(origin: str, folder: Path, *, listen: str, admin: str = "127.0.0.1:0") -> str:
    text = config(origin, folder / "store", ROUTE)
    return text.replace("listen: 127.0.0.1:0\n", f"listen: {listen}\n", 1).replace(
        "{listen: 127.0.0.1:0}", f"{{listen: '{admin}'}}", 1
    )


async def started(text: str) -> Worker:
    return await Worker.start(parse(text, file="f", environ={}), now=FakeClock())


async def asked(path: Path, target: str, **tls: Any) -> Reply:
    """Ask over a unix socket."""
    visitor = Visitor(*await asyncio.open_unix_connection(path, **tls))
    try:
        return await visitor.get(target)
    finally:
        await visitor.close()


async def unix_both_ways(folder: Path) -> None:
    """Ask over a unix socket for what is behind another one."""
    listen, admin = folder / "isr.sock", folder / "admin.sock"
    async with ScriptedOrigin(unix_path=str(folder / "app.sock")) as origin:
        origin.on("/p", page("near"))
        listens = f"{{address: 'unix:{listen}', mode: 600}}"
        worker = await started(on_socket(origin.url, folder, listen=listens, admin=f"unix:{admin}"))
        try:
            assert (worker.urls, worker.admin_url) == ((f"unix:{listen}",), f"unix:{admin}")
            assert stat.S_IMODE(listen.stat().st_mode) == 0o600
            assert (await asked(listen, "/p")).text == "near"
            assert origin.requests[0].header("x-forwarded-for") is None
            assert (await asked(admin, "/healthz")).status == 200
        finally:
            await worker.stop(drain=1.0)
        assert not listen.exists()
        assert not admin.exists()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_unix_sockets_on_both_sides(run: object, tmp_path: Path) -> None:
    assert callable(run)
    run(unix_both_ways(tmp_path))


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "isr.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    worker = await started(on_socket("http://127.0.0.1:1", tmp_path, listen=f"unix:{path}"))
    assert (await asked(path, "/p")).status == 502
    await worker.stop(drain=1.0)


@pytest.mark.parametrize("place", ["listen", "admin"])
async def test_the_socket_of_a_living_process_is_not_taken(tmp_path: Path, place: str) -> None:
    path = tmp_path / "isr.sock"
    taken = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", place: f"unix:{path}"}
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(OSError, match=f"cannot listen on unix:{path}: another process does"):
            await started(on_socket("http://127.0.0.1:1", tmp_path, **taken))
        assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "isr.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="a file that is no socket is there"):
        await started(on_socket("http://127.0.0.1:1", tmp_path, listen=f"unix:{path}"))
    assert path.read_text() == "precious"


async def test_a_socket_that_another_process_put_there_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "isr.sock"
    worker = await started(on_socket("http://127.0.0.1:1", tmp_path, listen=f"unix:{path}"))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        await worker.stop(drain=1.0)
        assert path.exists()


async def test_a_name_with_several_addresses_is_bound_to_all_of_them() -> None:
    sockets = bind(TcpAddress("localhost", 0))
    wanted = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert {sock.getsockname()[0] for sock in sockets} == wanted
    for sock in sockets:
        sock.close()


async def test_a_tls_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    pair = Authority.make(tmp_path).sign("site.example")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"{{address: '127.0.0.1:{taken.getsockname()[1]}', tls: {pair.yaml()}}}"
        with pytest.raises(OSError, match="in use"):
            await started(on_socket("http://127.0.0.1:1", tmp_path, listen=listen))


async def test_tls_over_a_unix_socket(tmp_path: Path) -> None:
    ca, path = Authority.make(tmp_path), tmp_path / "isr.sock"
    listen = f"{{address: 'unix:{path}', mode: 666, tls: {ca.sign('site.example').yaml()}}}"
    worker = await started(on_socket("http://127.0.0.1:1", tmp_path, listen=listen))
    reply = await asked(path, "/p", ssl=ca.trusting(), server_hostname="site.example")
    assert reply.status == 502
    await worker.stop(drain=1.0)
    assert not path.exists()


# --- the origin's TLS, and what a reload does to it ---


async def test_a_reload_takes_a_new_ca_for_the_origin(tmp_path: Path) -> None:
    old, new = Authority.make(tmp_path, "old"), Authority.make(tmp_path, "new")
    pair = new.sign("origin.test")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(old.own.certificate.read_text())
    async with ScriptedOrigin(server(pair)) as origin:
        origin.on("/p", page("secret"))
        tls = f"host: origin.test, tls: {{ca: {trusted}}}"
        text = config(origin.url, tmp_path / "store", ROUTE, origin_more=tls)
        settings = parse(text, file="f", environ={})
        worker = await Worker.start(settings, now=FakeClock(), load=lambda: parse(text, file="f", environ={}))
        visitor = await Visitor.connect(worker.urls[0])
        assert (await visitor.get("/p")).headers["x-cache-reason"] == "tls-failed"
        trusted.write_text("nonsense")
        with pytest.raises(ConfigError, match="has no certificate in PEM"):
            await worker.reload()
        trusted.write_text(new.own.certificate.read_text())
        await worker.reload()
        assert (await visitor.get("/q")).status == 404
        await visitor.close()
        await worker.stop(drain=1.0)


async def test_what_is_not_verified_is_told_loudly(tmp_path: Path) -> None:
    text = config("https://127.0.0.1:1", tmp_path / "store", ROUTE, origin_more="tls: {verify: false}")
    with structlog.testing.capture_logs() as lines:
        worker = await started(text)
        await worker.stop(drain=1.0)
    told = [line for line in lines if line.get("key") == "origin.tls.verify"]
    assert [line["log_level"] for line in told] == ["warning"]
