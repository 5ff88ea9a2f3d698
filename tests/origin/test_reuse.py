"""Connections over several requests: reuse, limits, retries, several origins."""

from __future__ import annotations

import asyncio
import socket

import pytest

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import HealthSettings
from isr_proxy.origin import connection
from isr_proxy.origin.client import Client, Outgoing
from isr_proxy.origin.health import FAILURES_MAX, State
from tests.origin.asking import asking, body_of, failure, get, post
from tests.scripted_origin import Close, Hang, Reset, ScriptedOrigin, Send, Wait, page


def _dead_url() -> str:
    """Return the URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


# --- keep-alive ---


async def test_a_connection_is_used_again() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("again"))
        assert [await body_of(client, get()) for _ in range(5)] == [b"again"] * 5
        assert origin.connections == 1


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["close", "http-1.0"],
)
async def test_a_connection_is_not_used_again_when_the_origin_says_so(start: bytes) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(start + b"hi")])
        assert [await body_of(client, get()), await body_of(client, get())] == [b"hi", b"hi"]
        assert origin.connections == 2


async def test_http_1_0_with_keep_alive_is_used_again() -> None:
    start = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(start)])
        assert [await body_of(client, get()), await body_of(client, get())] == [b"hi", b"hi"]
        assert origin.connections == 1


async def test_a_connection_that_stays_idle_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_LIMIT", 0.05)
    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.1) as client:
        await body_of(client, get())
        await origin.until(lambda: not origin.open_now)
        await body_of(client, get())
        assert origin.connections == 2


# --- the one retry ---


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["fin", "rst"])
async def test_a_kept_connection_that_died_is_replaced_once(end: Close | Reset) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("first"), [end], page("second"))
        assert [await body_of(client, get()), await body_of(client, get())] == [b"first", b"second"]
        assert origin.hits("/") == 3


async def test_the_retry_is_not_repeated() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("first"), [Close()])
        await body_of(client, get())
        assert await failure(client, get()) is Reason.RESET
        assert origin.hits("/") == 3


async def test_a_new_connection_that_dies_is_not_replaced() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Reset()])
        assert await failure(client, get()) is Reason.RESET
        assert origin.hits("/") == 1


@pytest.mark.parametrize(
    "outgoing",
    [get(method="POST"), get(method="PATCH"), post("/", b"x"), post("/", b"x", method="PUT")],
    ids=["POST", "PATCH", "POST-body", "PUT-body"],
)
async def test_what_may_not_be_sent_twice_is_not(outgoing: Outgoing) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("first"), [Close()])
        await body_of(client, get())
        assert await failure(client, outgoing) is Reason.RESET
        assert origin.hits("/") == 2


async def test_no_retry_after_the_first_byte_of_an_answer() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("first"), [Send(b"HTTP/1.1 2"), Close()])
        await body_of(client, get())
        assert await failure(client, get()) is Reason.RESET
        assert origin.hits("/") == 2


# --- the limit ---


@pytest.mark.parametrize("most", [1, 2])
async def test_law_8_connections_are_limited_and_waiters_served_in_order(most: int) -> None:
    go, order = asyncio.Event(), []

    async def ask(client: Client, number: int) -> None:
        await body_of(client, get("/"))
        order.append(number)

    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=most) as client:
        origin.on("/", [Wait(go), *page("x")])
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(ask(client, number))
            await origin.received(most)
            go.set()
        assert (origin.connections, origin.concurrent_max) == (most, most)
        # Those that are answered at the same time may end in any order.
        assert all(abs(place - number) < most for place, number in enumerate(order))


async def test_no_free_connection_in_time() -> None:
    async with (
        ScriptedOrigin() as origin,
        asking(origin.url, max_connections=1, connect_timeout=0.1) as client,
    ):
        origin.on("/slow", [Hang()])
        slow = asyncio.get_running_loop().create_task(client.fetch(get("/slow")))
        await origin.received(1)
        assert await failure(client, get()) is Reason.BUSY
        slow.cancel()


async def test_law_8_the_queue_for_connections_is_bounded() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/", [Hang()])
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(client.fetch(get())) for _ in range(11)]
        await origin.received(1)
        assert await failure(client, get()) is Reason.BUSY
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        origin.on("/", page("free again"))
        assert await body_of(client, get()) == b"free again"


async def test_closing_the_client_ends_everything() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/", [Hang()])
        asked = [asyncio.get_running_loop().create_task(client.fetch(get())) for _ in range(2)]
        await origin.received(1)
        await client.aclose()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        assert await failure(client, get()) is Reason.DRAINING


# --- no connection ---


async def test_nobody_listens() -> None:
    counted: list[Reason] = []
    async with asking(_dead_url(), on_error=counted.append) as client:
        assert await failure(client, get()) is Reason.REFUSED
        assert counted == [Reason.REFUSED]


async def test_the_name_does_not_resolve() -> None:
    async with asking("http://no-such-origin.invalid") as client:
        assert await failure(client, get()) is Reason.UNRESOLVED


async def test_connecting_takes_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection, never the TLS handshake
        async with asking(f"https://127.0.0.1:{deaf.getsockname()[1]}", connect_timeout=0.1) as client:
            assert await failure(client, get()) is Reason.CONNECT_TIMEOUT


async def test_an_origin_without_urls() -> None:
    async with asking() as client:
        assert await failure(client, get()) is Reason.NO_HEALTHY_ORIGIN


# --- several origins ---


async def test_origins_take_turns() -> None:
    async with ScriptedOrigin() as one, ScriptedOrigin() as two, asking(one.url, two.url) as client:
        for _ in range(6):
            await body_of(client, get())
        assert (len(one.requests), len(two.requests)) == (3, 3)


async def test_a_refused_connection_goes_to_another_origin_whatever_the_method() -> None:
    async with ScriptedOrigin() as origin, asking(_dead_url(), origin.url) as client:
        origin.on("/", page("here"))
        for _ in range(2):
            assert await body_of(client, post("/", b"form")) == b"here"
        assert [each.body for each in origin.requests] == [b"form"] * 2


async def test_an_origin_that_only_refuses_goes_down_and_is_left_alone() -> None:
    dead = _dead_url()
    async with ScriptedOrigin() as origin, asking(dead, origin.url) as client:
        for _ in range(2 * FAILURES_MAX + 2):
            await body_of(client, get())
        down, up = client.health
        assert (down.url, down.state, down.failures) == (dead, State.DOWN, FAILURES_MAX)
        assert (up.state, up.failures) == (State.UP, 0)


async def test_every_origin_is_down() -> None:
    async with asking(_dead_url(), _dead_url()) as client:
        reasons = [await failure(client, get()) for _ in range(FAILURES_MAX + 1)]
        assert reasons[0] is Reason.REFUSED
        assert reasons[-1] is Reason.NO_HEALTHY_ORIGIN


async def test_a_single_origin_is_tried_even_when_down() -> None:
    origin = ScriptedOrigin()
    async with origin:
        pass
    async with asking(origin.url) as client:
        for _ in range(FAILURES_MAX):
            assert await failure(client, get()) is Reason.REFUSED
        states = [client.health[0].state]
        async with origin:
            await body_of(client, get())
        assert [*states, client.health[0].state] == [State.DOWN, State.UP]


async def test_a_server_error_does_not_bring_an_origin_down() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page("broken", status=500))
        for _ in range(FAILURES_MAX):
            assert (await client.fetch(get())).head.status == 500
        assert client.health[0].state is State.UP


async def test_a_health_check_brings_an_origin_down_and_up() -> None:
    settings = HealthSettings(path="/health", interval=0.01)
    async with ScriptedOrigin() as origin, asking(origin.url, health=settings) as client:
        origin.on("/health", *[page("no", status=503)] * FAILURES_MAX, [Hang()])
        client.start()
        await origin.until(lambda: origin.hits("/health") > FAILURES_MAX)
        assert client.health[0].state is State.DOWN
        await body_of(client, get())  # an answer is no proof where there are checks
        assert client.health[0].state is State.DOWN


async def test_a_passed_health_check_brings_an_origin_up() -> None:
    settings = HealthSettings(path="/health", interval=0.01)
    async with ScriptedOrigin() as origin, asking(origin.url, health=settings) as client:
        origin.on("/health", *[[Reset()]] * FAILURES_MAX, page("fine", status=204), [Hang()])
        client.start()
        await origin.until(lambda: origin.hits("/health") == FAILURES_MAX + 2)
        assert client.health[0].state is State.UP
