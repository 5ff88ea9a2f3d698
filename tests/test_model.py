"""Store, purges, flights and restarts, in any order, against a simple model (laws 1, 2, 3 and 7).

The worker, its sockets, its store and the origin are real; only the clock is not. Every step says what the
model allows, so a failure prints the shortest story that breaks a law.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.purges import Scope, Selector, Strength
from tests.harness import FakeClock, Proxy, Reply, config, running
from tests.model import FOREVER, Copy, Fetching, Kind, Page, Shown, Way
from tests.scripted_origin import Close, Exchange, ScriptedOrigin, Send, head, page

ROUTES = """
- {match: /a/1, revalidate: 10s, stale_while_revalidate: 60s, stale_if_error: 10m, tags: [site],
   guard: &g {forbids: [BROKEN]}}
- {match: /a/2, revalidate: 10s, stale_while_revalidate: 0, stale_if_error: 5m, tags: [site], guard: *g}
- {match: /b/1, revalidate: never, tags: [site], guard: *g}
- {match: /b/2, revalidate: 30s, tags: [site], guard: *g}
"""


def new_pages() -> list[Page]:
    return [
        Page("/a/1", Kind.CHANGING, 10.0, 60.0, 600.0, frozenset({"site", "one", "odd"})),
        Page("/a/2", Kind.MARKED, 10.0, 0.0, 300.0, frozenset({"site", "two"})),
        Page("/b/1", Kind.VALIDATED, FOREVER, FOREVER, FOREVER, frozenset({"site", "three", "odd"})),
        Page("/b/2", Kind.MUTE, 30.0, FOREVER, FOREVER, frozenset({"site", "four"})),
    ]


class Mood(Enum):
    """How the origin answers."""

    WELL = "well"
    GONE = "404"
    SERVER_ERROR = "500"
    CUT = "body cut short"
    GUARD = "body forbidden by the guard"

    @property
    def is_failure(self) -> bool:
        return self not in (Mood.WELL, Mood.GONE)


SELECTORS = [
    *(Selector(Scope.PATH, path) for path in ("/a/1", "/a/2", "/b/1", "/b/2", "/c")),
    *(Selector(Scope.PREFIX, prefix) for prefix in ("/", "/a/", "/b")),
    *(Selector(Scope.TAG, tag) for tag in ("site", "odd", "one", "four", "unknown")),
    Selector(Scope.HOST, "site.example"),
    Selector(Scope.HOST, "other.example"),
    Selector(Scope.ALL),
]


def names(selector: Selector, page: Page) -> bool:
    match selector.scope:
        case Scope.ALL:
            return True
        case Scope.HOST:
            return selector.value == "site.example"
        case Scope.PATH | Scope.TARGET:
            return selector.value == page.path
        case Scope.PREFIX:
            return page.path.startswith(selector.value)
        case Scope.TAG:
            return selector.value in page.tags


class Origin:
    """Answers every page as told; remembers what each fetch was answered."""

    def __init__(self) -> None:
        self.server = ScriptedOrigin()
        self.version = dict.fromkeys((page.path for page in new_pages()), 1)
        self.mood = dict.fromkeys(self.version, Mood.WELL)
        self.held: dict[str, asyncio.Event] = {}
        self.fetches: dict[str, list[Fetching]] = {path: [] for path in self.version}
        self._count = 0
        for each in new_pages():
            self.server.on(each.path, self._script(each))

    def _script(self, asked: Page) -> Callable[[Exchange], Coroutine[Any, Any, None]]:
        async def answer(exchange: Exchange) -> None:
            self._count += 1
            mood, shown = self.mood[asked.path], self._shown(asked)
            self.fetches[asked.path].append(Fetching(shown, mood.is_failure))
            etag = f'"{self.version[asked.path]}"'
            if (held := self.held.get(asked.path)) is not None:
                await held.wait()
            await self._answer(exchange, asked, mood, shown, etag)

        return answer

    def _shown(self, asked: Page) -> Shown:
        count, version = str(self._count), self.version[asked.path]
        if self.mood[asked.path] is Mood.GONE:
            return Shown(f"gone {count}", None, 404)
        if asked.kind is Kind.CHANGING:
            return Shown(f"version {version} fetch {count}", None)
        return Shown(f"version {version}", None if asked.kind is Kind.MUTE else count)

    async def _answer(self, exchange: Exchange, asked: Page, mood: Mood, shown: Shown, etag: str) -> None:
        fields = {"Cache-Tag": ",".join(asked.tags - {"site"})}
        if shown.mark is not None:
            fields["X-Fetch"] = shown.mark
        if asked.kind is Kind.VALIDATED and mood is Mood.WELL:
            fields["ETag"] = etag
        match mood:
            case Mood.WELL if etag == exchange.request.header("if-none-match") and "ETag" in fields:
                await exchange.send(head(304, fields))
            case Mood.WELL | Mood.GONE:
                await exchange.run(page(shown.body, fields, shown.status))
            case Mood.SERVER_ERROR:
                await exchange.run(page("oops", status=500))
            case Mood.CUT:
                await exchange.run([Send(head(200, {**fields, "Content-Length": "99"}) + b"cut"), Close()])
            case Mood.GUARD:
                await exchange.run(page("BROKEN", fields))


class Waiting:
    """A visitor who has no answer yet."""

    def __init__(self, reply: asyncio.Task[Reply]) -> None:
        self.reply = reply
        self.fetching: Fetching | None = None
        self.came_after_purge = False  # of what he waits for: he must not see it
        self.fallbacks: set[Shown] = set()
        self.may_fail = False

    def check(self, later: Sequence[Fetching] = ()) -> None:
        """Look at what he got in the end; `later` are fetches that began when his had opened."""
        assert self.fetching is not None
        fetching, reply = self.fetching, self.reply.result()
        seen = [one for one in fetching.rivals if not one.is_hidden]
        seen += [] if self.came_after_purge else [fetching]
        seen += later if fetching.is_hidden else []
        failures = [one for one in seen if one.is_failure]
        shown = shown_by(reply)
        if reply.is_whole and shown in {one.shown for one in seen if not one.is_failure}:
            return
        if shown in self.fallbacks and (failures or fetching.rivals or fetching.is_hidden):
            return
        assert failures, f"{shown} is none of {seen}"
        is_allowed = self.may_fail or fetching.is_hidden  # a fallback may have been purged as he waited
        assert is_allowed, f"a failure was shown, though one of {self.fallbacks} was stored"
        assert reply.status >= 500 or not reply.is_whole or reply.text == "BROKEN"


def shown_by(reply: Reply) -> Shown:
    return Shown(reply.text, reply.headers.get("x-fetch"), reply.status)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so; asked often, as hundreds of these waits make one run."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  what changes it is in the proxy, which tells nobody
            await asyncio.sleep(0.0002)


T = TypeVar("T")
PAGES = st.integers(0, 3)
VISITS = st.lists(PAGES, min_size=1, max_size=5)
TICK = 0.001  # no two things happen at the same instant
SECONDS = st.sampled_from([TICK, TICK, 4.0, 9.0, 11.0, 29.0, 45.0, 65.0, 310.0, 700.0])
MOODS = [Mood.WELL, Mood.WELL, Mood.WELL, *Mood]


class IsrMachine(RuleBasedStateMachine):
    """One proxy, one origin, four pages."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="isr-model-"))
        self.clock = FakeClock()
        self.pages = new_pages()
        self.waiting: dict[str, list[Waiting]] = {page.path: [] for page in self.pages}
        self.run(self._start())

    async def _start(self) -> None:
        self.origin = Origin()
        await self.origin.server.__aenter__()
        await self._start_proxy()

    async def _start_proxy(self) -> None:
        self.context = running(config(self.origin.server.url, self.directory, ROUTES), self.clock)
        self.proxy: Proxy = await self.context.__aenter__()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.run(self._stop())
        finally:
            self.runner.close()
            shutil.rmtree(self.directory)

    async def _stop(self) -> None:
        for held in self.origin.held.values():
            held.set()
        await asyncio.gather(*(one.reply for waiting in self.waiting.values() for one in waiting))
        await self.context.__aexit__(None, None, None)
        await self.origin.server.__aexit__(None, None, None)

    # --- what happens: a change, and then some visits ---

    @rule(number=PAGES, mood=st.sampled_from(MOODS), seconds=SECONDS, visits=VISITS)
    def origin_changes(self, number: int, mood: Mood, seconds: float, visits: list[int]) -> None:
        path = self.pages[number].path
        self.origin.version[path] += 1
        self.origin.mood[path] = mood
        self._pass_and_visit(seconds, visits)

    @rule(seconds=SECONDS, visits=VISITS)
    def time_passes(self, seconds: float, visits: list[int]) -> None:
        self._pass_and_visit(seconds, visits)

    @rule(selector=st.sampled_from(SELECTORS), strength=st.sampled_from(Strength), visits=VISITS)
    def purge(self, selector: Selector, strength: Strength, visits: list[int]) -> None:
        self.clock.advance(TICK)
        selector = Selector(selector.scope, selector.value, None, strength)
        self.run(self.proxy.worker.purges.append((selector,), now=self.clock()))
        for each in self.pages:
            if names(selector, each):
                by_scope = each.purge_by_tag if selector.scope is Scope.TAG else each.purge
                purge = by_scope if strength is Strength.HARD else each.purge_softly
                purge(self.clock())
        self._pass_and_visit(TICK, visits)

    @rule(number=PAGES, seconds=SECONDS, visits=VISITS)
    def hold(self, number: int, seconds: float, visits: list[int]) -> None:
        self.origin.held.setdefault(self.pages[number].path, asyncio.Event())
        self._pass_and_visit(seconds, [*visits, number])

    @rule(seconds=SECONDS, visits=VISITS)
    def release(self, seconds: float, visits: list[int]) -> None:
        self.clock.advance(seconds)
        for each in self.pages:
            self.run(self._release(each))
        self._pass_and_visit(TICK, visits)

    @rule(
        number=PAGES,
        selector=st.sampled_from(SELECTORS),
        strength=st.sampled_from(Strength),
        seconds=SECONDS,
        visits=VISITS,
    )
    def purge_in_flight(
        self, number: int, selector: Selector, strength: Strength, seconds: float, visits: list[int]
    ) -> None:
        self.hold(number, seconds, [])
        self.purge(selector, strength, [number])
        self.release(TICK, [number, *visits])

    @rule(seconds=SECONDS, visits=VISITS)
    def restart(self, seconds: float, visits: list[int]) -> None:
        self.release(TICK, [])
        self.run(self._restart())
        self._pass_and_visit(seconds, visits)

    async def _restart(self) -> None:
        await self.context.__aexit__(None, None, None)
        await self._start_proxy()

    def _pass_and_visit(self, seconds: float, visits: list[int]) -> None:
        self.clock.advance(seconds)
        for number in visits:
            self.clock.advance(TICK)
            self.run(self._visit(self.pages[number]))

    # --- what must come of it ---

    async def _release(self, page: Page) -> None:
        held = self.origin.held.pop(page.path, None)
        if held is None:
            return
        before = len(self.origin.fetches[page.path])
        waiting, self.waiting[page.path] = self.waiting[page.path], []
        held.set()
        await asyncio.gather(*(one.reply for one in waiting))
        await self._settled(sum(len(each.flying) for each in self.pages) - len(page.flying))
        later = self.origin.fetches[page.path][before:]
        for fetching in later:
            page.begin(fetching)
        for fetching in list(page.flying):
            page.land(fetching, self.clock())
        for one in waiting:
            one.check(later)

    async def _settled(self, flying: int) -> None:
        """Wait until only so many fetches are under way."""
        await until(lambda: len(self.proxy.worker.engine.flights) == flying)

    async def _visit(self, page: Page) -> None:
        before, joinable = len(self.origin.fetches[page.path]), page.joinable
        waiting = await self._ask(page)
        fetches = self.origin.fetches[page.path][before:]
        assert len(fetches) <= 1, "law 3: one fetch for one visitor"
        fetched = fetches[0] if fetches else None
        is_free = joinable is None or joinable.is_hidden
        assert fetched is None or is_free, "law 3: a fetch was under way already"
        page.copies = self._explained(page, waiting, fetched, joinable)
        assert page.copies, f"nothing explains {waiting.reply} with {fetched}"
        waiting.fetching = fetched or joinable
        waiting.came_after_purge = fetched is None and joinable is not None and joinable.is_hidden
        if fetched is not None:
            page.begin(fetched)
        if not waiting.reply.done():
            self.waiting[page.path].append(waiting)
        elif fetched is not None and page.path not in self.origin.held:
            page.land(fetched, self.clock())

    async def _ask(self, page: Page) -> Waiting:
        """Send a request; returns when it is answered and settled, or surely waits for the origin."""
        flights, fetches = self.proxy.worker.engine.flights, self.origin.fetches[page.path]
        flying, before = sum(len(each.flying) for each in self.pages), len(fetches)
        identity = Key("http", "site.example", page.path, None).digest + PLAIN.digest
        flight = flights.find(identity)
        waiters = 0 if flight is None else flight.waiters

        def is_waiting() -> bool:
            now = flights.find(identity)
            return now is not None and now.waiters > (waiters if now is flight else 0)

        is_held = page.path in self.origin.held
        visitor = await self.proxy.visitor()
        reply = asyncio.get_running_loop().create_task(visitor.get(page.path))
        await until(lambda: reply.done() or (is_held and is_waiting()))
        await until(lambda: len(flights) == flying + (len(fetches) - before if is_held else 0))
        return Waiting(reply)

    def _explained(
        self, page: Page, waiting: Waiting, fetched: Fetching | None, joinable: Fetching | None
    ) -> list[Copy | None]:
        """Return the copies that explain what was seen."""
        explained: dict[Copy | None, None] = {}
        is_origin_asked = fetched is not None or joinable is not None
        reply = waiting.reply.result() if waiting.reply.done() else None
        for copy in page.copies:
            for way in page.ways(copy, self.clock()):
                if self._explains(way, copy, reply, fetched, is_origin_asked=is_origin_asked):
                    explained[copy] = None
                    if way is Way.FALLBACK and copy is not None:
                        waiting.fallbacks.add(copy.shown)
                    waiting.may_fail = waiting.may_fail or way is Way.WAIT
        if reply is not None and fetched is not None and reply.x_cache not in ("HIT", "STALE"):
            waiting.fetching = fetched
            waiting.check()
        return list(explained)

    def _explains(
        self,
        way: Way,
        copy: Copy | None,
        reply: Reply | None,
        fetched: Fetching | None,
        *,
        is_origin_asked: bool,
    ) -> bool:
        is_old = reply is not None and copy is not None and shown_by(reply) == copy.shown
        x_cache = None if reply is None else reply.x_cache
        match way:
            case Way.HIT:
                return is_old and x_cache == "HIT" and fetched is None
            case Way.KEPT:
                return is_old and x_cache == "STALE" and fetched is None
            case Way.BEHIND:
                return is_old and x_cache == "STALE" and is_origin_asked
            case Way.FALLBACK:
                is_kept = is_old and x_cache == "STALE" and fetched is not None and fetched.is_failure
                return is_origin_asked and (reply is None or is_kept or x_cache == "MISS")
            case Way.WAIT:
                return is_origin_asked and x_cache in (None, "MISS", "ERROR")


IsrMachine.TestCase.settings = settings(
    max_examples=35,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLaws1And2And3And7 = IsrMachine.TestCase
