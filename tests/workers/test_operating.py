"""What operators and visitors do to several workers at once: revalidate, prerender, POST, other sockets."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Visitor, eventually
from tests.pem import Authority
from tests.scripted_origin import ScriptedOrigin, Wait, page
from tests.workers.hosting import hosted, text_of


async def test_revalidate_waits_until_every_worker_has_the_new_page(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"), page("two"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        for _ in range(4):  # each worker has it ready in its hot lane
            assert {(await visitor.get("/p")).text for visitor in visitors} == {"one"}
        status, said = await host.call("POST", "/v1/revalidate", {"paths": ["/p"], "wait": True})
        assert (status, [each["result"] for each in said["results"]]) == (200, ["regenerated"])
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"two"}
        assert origin.hits("/p") == 2


async def test_what_one_worker_replaces_no_other_goes_on_serving(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"), page("two"))
    route = "- {match: '/**', revalidate: 1h, client_directives: honor}"
    async with hosted(text_of(origin.url, tmp_path / "store", route), tmp_path) as host:
        visitors = await host.visitors(40)
        for _ in range(4):  # each worker has it in its hot tier, and ready in its hot lane
            assert {(await visitor.get("/p")).text for visitor in visitors} == {"one"}
        assert (await visitors[0].get("/p", {"Cache-Control": "no-cache"})).text == "two"
        await host.is_flying(0)
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"two"}
        assert origin.hits("/p") == 2


async def test_revalidate_does_not_count_a_fetch_of_another_worker_that_began_before(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("before")], page("after"))
    text = text_of(origin.url, tmp_path / "store", more="hosts: [site.example]\n")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        speaker = await host.speaker()
        other = next(mine for pid, mine in host.serving(visitors).items() if pid != speaker)
        other[0].send("/p")
        await host.is_flying(1)
        asking = asyncio.ensure_future(host.call("POST", "/v1/revalidate", {"paths": ["/p"], "wait": True}))
        await host.is_flying(2)
        release.set()
        status, said = await asking
        assert (status, [each["result"] for each in said["results"]]) == (200, ["regenerated"])
        assert {(await visitor.get("/p")).text for visitor in visitors if visitor is not other[0]} == {
            "after"
        }
        assert origin.hits("/p") == 2


async def test_pages_are_made_at_start_once_and_every_worker_knows_which(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    for path in ("/a", "/b"):
        origin.on(path, page(path))
    route = "- {match: '/{name}', revalidate: 1h, fallback: not_found, prerender: [/a, /b]}"
    text = text_of(origin.url, tmp_path / "store", route, more="hosts: [site.example]\n")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        await eventually(lambda: origin.hits("/a") == origin.hits("/b") == 1)
        await host.is_flying(0)
        assert {(await visitor.get("/a")).text for visitor in visitors} == {"/a"}
        assert {(await visitor.get("/c")).status for visitor in visitors} == {404}
        assert (origin.hits("/a"), origin.hits("/b"), origin.hits("/c")) == (1, 1, 0)


async def test_law_2_an_unsafe_request_to_one_worker_counts_in_all(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    cached = {"Cache-Control": "max-age=60"}
    origin.on("/p", page("one", cached), page("changed"), page("two", cached))
    route = "- {match: '/**', revalidate: origin}"
    async with hosted(text_of(origin.url, tmp_path / "store", route), tmp_path) as host:
        visitors = await host.visitors(40)
        await visitors[0].get("/p")
        await host.is_flying(0)
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"one"}
        assert (await visitors[-1].get("/p", {"Content-Length": "0"}, method="POST")).text == "changed"
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"two"}
        assert origin.hits("/p") == 3


async def test_lines_of_the_access_log_stay_whole_however_slowly_they_are_read(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store").replace("access: false", "access: true")
    reading, writing = os.pipe()
    async with hosted(text, tmp_path, stdout=writing) as host:
        os.close(writing)
        visitors = await host.visitors(40)
        for _ in range(20):  # 200 KB, where a pipe has room for 64
            await asyncio.gather(*(visitor.get("/p", {"User-Agent": "x" * 200}) for visitor in visitors))
        lines = await asyncio.to_thread(read_lines, reading, 800)
        assert {json.loads(line)["path"] for line in lines} == {"/p"}


def read_lines(descriptor: int, count: int) -> list[bytes]:
    """Read so many lines, slowly at first."""
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        data = b""
        while data.count(b"\n") < count:
            data += pipe.read(512)
    return data.splitlines()


async def test_a_unix_socket_is_everybodys(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    listen, admin = tmp_path / "isr.sock", tmp_path / "admin.sock"
    text = text_of(origin.url, tmp_path / "store").replace(
        "listen: 127.0.0.1:0\n", f"listen: {{address: 'unix:{listen}', mode: 600}}\n", 1
    )
    async with hosted(text.replace("listen: 127.0.0.1:0}", f"listen: 'unix:{admin}'}}"), tmp_path) as host:
        assert stat.S_IMODE(os.stat(listen).st_mode) == 0o600
        for number in range(2):
            visitor = Visitor(*await asyncio.open_unix_connection(listen))
            assert (await visitor.get("/p")).text == "one"
            await visitor.close()
            asking = Visitor(*await asyncio.open_unix_connection(admin))
            assert (await asking.get("/healthz", {"Host": "localhost"})).status == 200
            await asking.close()
            if not number:
                for pid in host.pids:
                    host.kill(pid)
                await eventually(lambda: len(host.lines("a worker ended and is replaced")) == 4)
    assert not is_there(listen, admin)


async def test_tls_is_every_workers_and_a_reload_takes_new_certificates_to_all(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    ca, later = Authority.make(tmp_path, "old"), Authority.make(tmp_path, "new")
    listen = f"{{address: '127.0.0.1:0', tls: {ca.sign('site.example').yaml()}}}"
    text = text_of(origin.url, tmp_path / "store").replace("listen: 127.0.0.1:0\n", f"listen: {listen}\n", 1)
    async with hosted(text, tmp_path) as host:
        port = int(host.url.rsplit(":", 1)[1])

        async def asked(trusting: Authority) -> str:
            streams = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting.trusting(), server_hostname="site.example"
            )
            visitor = Visitor(*streams)
            try:
                return (await visitor.get("/p")).text
            finally:
                await visitor.close()

        assert {await asked(ca) for _ in range(20)} == {"one"}
        new = f"{{address: '127.0.0.1:0', tls: {later.sign('site.example').yaml()}}}"
        host.config.write_text(text.replace(listen, new))
        assert (await host.call("POST", "/v1/reload"))[0] == 200
        assert {await asked(later) for _ in range(20)} == {"one"}


def is_there(*paths: Path) -> bool:
    return any(path.exists() for path in paths)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of its own, to be filled or made read-only."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=8m", "none", str(path))
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def _mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")


async def test_law_5_a_disk_that_cannot_be_written_is_served_from_by_all(
    origin: ScriptedOrigin, tmp_path: Path, disk: Path
) -> None:
    origin.on("/p", page("one"))
    origin.on("/q", page("two"))
    text = text_of(origin.url, disk).replace("revalidate: 10s", "revalidate: 1h")
    async with hosted(text, tmp_path) as host:
        await (await host.visitor()).get("/p")
        await host.is_flying(0)
    _mount("-o", "remount,ro", str(disk))
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"one"}
        assert origin.hits("/p") == 1
        assert {(await visitor.get("/q")).text for visitor in visitors[:8]} == {"two"}
        status, said = await host.call("POST", "/v1/purge", {"paths": ["/p"]})
        assert (status, "could not be written" in said["error"]) == (500, True)
        assert {(await visitor.get("/p")).x_cache for visitor in visitors} == {
            "MISS"
        }  # law 2, till a restart
        host.kill(host.pids[-1])
        await host.all_ready(1)  # whoever comes now only knows that something was purged: in doubt, all
        assert {(await visitor.get("/p")).x_cache for visitor in await host.visitors(40)} == {"MISS"}
