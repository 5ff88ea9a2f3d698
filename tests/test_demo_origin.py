"""The demo's origin over real sockets, the plan and words of the demo around it, and the whole of it once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from aiohttp.test_utils import TestClient, make_mocked_request

from isr_proxy.core.settings import TcpAddress
from isr_proxy.run import demo, demo_pages
from isr_proxy.run.demo import DemoOptions
from isr_proxy.run.demo_origin import DemoOrigin, Mood, build_origin_app
from isr_proxy.run.demo_pages import DEFAULT_ADDRESSES, Made

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]
ROOT = Path(__file__).resolve().parent.parent
NOON = 1_800_000_000.0


class Slept:
    """A sleep that only writes down for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
async def origin(aiohttp_client: MakeClient, slept: Slept) -> Client:
    return await aiohttp_client(build_origin_app(now=lambda: NOON, sleep=slept))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


async def text_of(origin: Client, path: str, **headers: str) -> str:
    async with origin.get(path, headers=headers) as answer:
        return await answer.text()


async def status_of(origin: Client, path: str) -> int:
    async with origin.get(path) as answer:
        return answer.status


async def press(origin: Client, switch: str) -> None:
    async with origin.post(f"/_demo/{switch}") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/", "/blog/hello", "/news", "/account", "/missing"])
async def test_a_page_says_when_it_was_made(origin: Client, path: str) -> None:
    html = await text_of(origin, path)
    assert f'data-made-at="{NOON:.3f}"' in html
    assert '<time datetime="2027-01-15T08:00:00+00:00">08:00:00</time>' in html


async def test_a_page_counts_its_generations(origin: Client) -> None:
    await text_of(origin, "/")
    await text_of(origin, "/news")
    assert "generation 2 of this page, page 3 of all" in await text_of(origin, "/")


async def test_pages_ask_nothing_of_other_sites(origin: Client) -> None:
    html = await text_of(origin, "/")
    assert "src=" not in html
    assert "https://" not in html


async def test_the_time_is_json(origin: Client) -> None:
    async with origin.get("/api/time") as answer:
        assert await answer.json() == {"path": "/api/time", "made_at": NOON, "generation": 1}


@pytest.mark.parametrize("path", ["/missing", "/blog/Not_A_Slug", "/blog/a/b", "/blog/" + "x" * 65])
async def test_what_is_not_there_is_404(origin: Client, path: str) -> None:
    assert await status_of(origin, path) == 404


async def test_a_path_is_text_and_not_html(origin: Client) -> None:
    html = demo_pages.missing(Made("/<script>alert(1)</script>", NOON, 1, 1))
    assert "<script>alert" not in html


async def test_a_broken_origin_answers_500_until_it_is_healed(origin: Client) -> None:
    await press(origin, "break")
    assert await status_of(origin, "/") == 500
    await press(origin, "heal")
    assert await status_of(origin, "/") == 200


async def test_a_slow_origin_answers_late(origin: Client, slept: Slept) -> None:
    await press(origin, "slow?seconds=2.5")
    assert await status_of(origin, "/news") == 200
    assert slept.seconds == [2.5]


@pytest.mark.parametrize("seconds", ["-1", "31", "nan", "soon"])
async def test_it_can_be_slowed_within_reason_only(origin: Client, seconds: str) -> None:
    assert await status_of(origin, f"/_demo/slow?seconds={seconds}") == 400


async def test_a_truncated_body_ends_before_its_length(origin: Client) -> None:
    await press(origin, "truncate")
    with pytest.raises(ClientPayloadError):
        await text_of(origin, "/")


async def test_a_hanging_request_is_answered_when_the_origin_is_healed() -> None:
    origin = DemoOrigin(lambda: NOON, asyncio.sleep, DEFAULT_ADDRESSES)
    origin.switches.turn(Mood.HANGING)
    hanging = asyncio.ensure_future(origin.in_this_mood(make_mocked_request("GET", "/"), origin.home))
    await asyncio.sleep(0)
    assert not hanging.done()
    origin.switches.turn(Mood.WELL)
    assert (await hanging).status == 200


async def test_hanging_requests_are_answered_at_the_end(origin: Client) -> None:
    await press(origin, "hang")
    asking = asyncio.ensure_future(status_of(origin, "/"))
    while '"hanging": 1' not in await text_of(origin, "/_demo/state"):
        pass
    async with asyncio.timeout(20):
        await origin.server.close()
    assert await asking == 200


@pytest.mark.parametrize("switch", ["slow?seconds=0", "break", "truncate", "hang", "heal"])
async def test_switches_work_in_every_mood_and_by_plain_address(origin: Client, switch: str) -> None:
    await press(origin, "break")
    async with origin.get(f"/_demo/{switch}") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await answer.json())["mood"] in {mood.value for mood in Mood}


async def test_an_unknown_switch_is_404(origin: Client) -> None:
    assert await status_of(origin, "/_demo/explode") == 404


@pytest.mark.parametrize(
    ("referer", "location"),
    [("http://x/news", "/news"), ("http://x//evil.example/", "/"), ("http://x/_demo/hang", "/"), ("", "/")],
)
async def test_a_button_leads_back_to_a_page_of_this_site(
    origin: Client, referer: str, location: str
) -> None:
    headers = {"Accept": "text/html", "Referer": referer}
    async with origin.post("/_demo/break", headers=headers, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, location)


async def test_the_account_page_greets_whoever_logged_in(origin: Client) -> None:
    await text_of(origin, "/_demo/login?name=Grace")
    async with origin.get("/account") as answer:
        assert "Hello, Grace" in await answer.text()
        assert answer.headers["Cache-Control"] == "private, no-store"


async def test_logging_out_forgets_the_name(origin: Client) -> None:
    await text_of(origin, "/_demo/login?name=Ada")
    await text_of(origin, "/_demo/logout")
    assert "Nobody is logged in" in await text_of(origin, "/account")


async def test_a_strange_name_is_not_shown(origin: Client) -> None:
    assert "Nobody is logged in" in await text_of(origin, "/account", Cookie="demo_user=<b>")


def test_a_taken_port_gives_way_to_the_next(taken_port: int) -> None:
    plan = demo.make_plan(DemoOptions(port=taken_port))
    assert plan.listen.port > taken_port
    assert f"Port {taken_port} is taken: the page is on {plan.listen.port}." in demo.moved(plan)


def test_the_ports_of_one_demo_differ(taken_port: int) -> None:
    plan = demo.make_plan(DemoOptions(port=taken_port, admin_port=taken_port, origin_port=taken_port))
    assert plan.own is not None
    assert len({taken_port, plan.listen.port, plan.admin.port, plan.own.port}) == 4


def test_the_admin_and_the_origin_stay_on_loopback() -> None:
    plan = demo.make_plan(DemoOptions(host="0.0.0.0", port=0, admin_port=0, origin_port=0))
    assert plan.own is not None
    assert (plan.listen.host, plan.admin.host, plan.own.host) == ("0.0.0.0", "127.0.0.1", "127.0.0.1")
    assert plan.addresses.page_url == f"http://localhost:{plan.listen.port}"


def test_nothing_is_said_about_ports_that_were_free() -> None:
    plan = demo.make_plan(DemoOptions(port=0, admin_port=0))
    assert demo.moved(plan) == ""


def test_without_a_free_port_it_says_so(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PORTS_TRIED", 1)
    with pytest.raises(OSError, match=f"no free port at 127.0.0.1 from {taken_port}"):
        demo.free_port("127.0.0.1", taken_port)


def test_another_app_gets_a_store_of_its_own() -> None:
    stores = {demo.store_of(DemoOptions(origin=url), 8080) for url in (None, "http://a:1", "http://b:1")}
    assert stores == {"./.isr-cache/demo", "./.isr-cache/demo-a-1", "./.isr-cache/demo-b-1"}


def test_a_second_demo_gets_a_store_of_its_own() -> None:
    assert demo.store_of(DemoOptions(), 8083) == "./.isr-cache/demo-8083"


def test_the_demos_settings_lead_to_its_origin() -> None:
    plan = demo.make_plan(DemoOptions(port=0, admin_port=0, origin_port=0))
    settings = demo.demo_settings(plan)
    assert settings.origin.urls == (f"http://{plan.own}",)
    assert settings.listen == (plan.listen,)
    assert settings.admin.listen == plan.admin
    assert settings.store.path == plan.store


def test_the_switches_are_never_stored() -> None:
    settings = demo.demo_settings(demo.make_plan(DemoOptions(port=0, admin_port=0)))
    assert settings.routes[0].match == "/_demo/**"
    assert settings.routes[0].revalidate.mode.value == "pass"


def test_another_apps_own_headers_decide() -> None:
    settings = demo.demo_settings(demo.make_plan(DemoOptions(origin="http://localhost:3000", port=0)))
    assert settings.origin.urls == ("http://localhost:3000",)
    assert [(route.match, route.revalidate.mode.value) for route in settings.routes] == [("/**", "origin")]


def test_the_banner_names_both_addresses_and_three_things_to_try() -> None:
    text = demo.banner("http://127.0.0.1:8080", "http://127.0.0.1:8081")
    assert "Page        http://127.0.0.1:8080/\n" in text
    assert "Dashboard   http://127.0.0.1:8081/\n" in text
    assert [f"    {number}. " in text for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_the_banner_of_another_app_says_how_to_write_routes() -> None:
    own = demo.make_plan(DemoOptions(origin="http://localhost:3000", port=0))
    text = demo.greeting(own)
    assert f"Page        http://127.0.0.1:{own.listen.port}/" in text
    assert "url: http://localhost:3000" in text
    assert "revalidate: 10s" in text


async def test_the_origin_serves_where_the_plan_says() -> None:
    listen = TcpAddress("127.0.0.1", demo.free_port("127.0.0.1", 0))
    async with demo.serving_origin(listen, DEFAULT_ADDRESSES):
        assert demo.bindable("127.0.0.1", listen.port) is None
    assert demo.bindable("127.0.0.1", listen.port) == listen.port


START = """
import asyncio
from isr_proxy.run.demo import DemoOptions, run_demo
asyncio.run(run_demo(DemoOptions(port=0, admin_port=0, origin_port=0, store="cache")))
"""


async def test_a_newcomer_sees_the_page_survive_a_broken_origin(tmp_path: Path) -> None:
    demo_process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        START,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        page_url = await printed_page(demo_process)
        async with ClientSession() as visitor:
            assert await seen(visitor, page_url) == (200, "MISS")
            while await seen(visitor, page_url) != (200, "HIT"):
                pass  # the page is still on its way to the disk
            await visitor.post(f"{page_url}_demo/break")
            assert await seen(visitor, page_url) in ((200, "HIT"), (200, "STALE"))
            assert await seen(visitor, f"{page_url}blog/never-made") == (500, "ERROR")
    finally:
        demo_process.send_signal(signal.SIGTERM)
        rest, _ = await demo_process.communicate()
    assert demo_process.returncode == 0
    assert b"Stopped. The pages stay in cache/demo" in rest


async def printed_page(process: asyncio.subprocess.Process) -> str:
    """Return the page's URL from the banner, once the banner is whole."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        text = await process.stdout.readuntil(b"Ctrl-C stops")
    found = re.search(rb"Page +(\S+)", text)
    assert found
    return found[1].decode()


async def seen(visitor: ClientSession, url: str) -> tuple[int, str]:
    async with visitor.get(url) as answer:
        return answer.status, answer.headers["X-Cache"]
