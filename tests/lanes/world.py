"""A proxy with its lanes on, or with every request answered by a task; its origin, and what is done to both.

Knows how a request is spelled, and how an answer is read byte for byte. Must not know what is compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from isr_proxy.core.settings import Settings
from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker
from tests.harness import FakeClock, Proxy, Visitor, config
from tests.scripted_origin import Exchange, Script, ScriptedOrigin, Step, page

PATHS = (
    "/a",
    "/b",
    "/q?x=1",
    "/vary",
    "/missing",
    "/moved",
    "/private",
    "/large",
    "/swr/a",
    "/headers",
    "/pass/a",
)

ROUTES = """
- {{match: /swr/**, revalidate: 10s}}
- {{match: /headers, revalidate: origin}}
- {{match: /pass/**, revalidate: 0}}
- {{match: /honor, revalidate: {ttl}, client_directives: honor}}
- {{match: '/**', revalidate: {ttl}, stale_while_revalidate: 0, client_cache_control: '{told}', tags: [all]}}
"""
CONFIGS = (("10s", "public, max-age=0"), ("3s", "public, max-age=0"), ("10s", "max-age=7"))
LONG = "a line of text that compresses well, and another one; " * 40


@dataclass(frozen=True)
class Asked:
    """One request as it is written on the wire."""

    path: str
    lines: tuple[str, ...] = ()
    method: str = "GET"
    version: str = "1.1"
    before: str = ""

    @property
    def raw(self) -> bytes:
        lines = "".join(f"{line}\r\n" for line in ("Host: site.example", *self.lines))
        return f"{self.before}{self.method} {self.path} HTTP/{self.version}\r\n{lines}\r\n".encode()

    @property
    def is_last(self) -> bool:
        """Tell whether the connection ends with it."""
        return self.version == "1.0" or "Connection: close" in self.lines


@dataclass
class World:
    """One proxy and its origin. `versions` are those of the origin's pages."""

    origin: ScriptedOrigin
    configs: Sequence[Settings]
    clock: FakeClock = field(default_factory=FakeClock)
    versions: dict[str, int] = field(default_factory=dict)
    settings: int = 0  # which of the configs the next reload finds
    proxy: Proxy = field(init=False)

    # --- what is done ---

    async def ask(self, visitor: Visitor, asked: Sequence[Asked], cuts: Sequence[int] = ()) -> bytes:
        """Write requests behind each other, cut at these places; returns all that comes back."""
        stream = b"".join(one.raw for one in asked)
        places = [0, *sorted({cut % len(stream) for cut in cuts}), len(stream)]
        for start, stop in pairwise(places):
            visitor.writer.write(stream[start:stop])
            await self._taken()
        return b"".join([await answer(visitor, one) for one in asked])

    async def _taken(self) -> None:
        """Let the proxy read what was written before anything follows it."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def reload(self, number: int) -> None:
        self.settings = number
        await self.proxy.worker.reload()

    def change(self, path: str) -> None:
        """Have another page at the origin from now on."""
        self.versions[path] = self.versions.get(path, 0) + 1

    # --- the origin ---

    def script(self, path: str) -> Script:
        async def answer_now(exchange: Exchange) -> None:
            await exchange.run(self._page(path, exchange.request.header("accept-language")))

        return answer_now

    def _page(self, path: str, language: str | None) -> list[Step]:
        version = self.versions.get(path, 0)
        lines = {"Content-Type": "text/html", "ETag": f'"{version}"', "Cache-Tag": f"of{path}"}
        match path:
            case "/missing":
                return page("nothing here", status=404)
            case "/moved":
                return page("", {"Location": f"/a?{version}"}, status=301)
            case "/private":
                return page("mine", {"Cache-Control": "private"})
            case "/vary":
                return page(f"{language} {version} {LONG}", {**lines, "Vary": "Accept-Language"})
            case "/large":
                return page(b"x%d" % version * 200_000, {"Content-Type": "image/png"})
            case "/headers":
                said = {"Cache-Control": "max-age=5", "Age": "2", "Cache-Status": "other; hit; ttl=3"}
                return page(f"{version} {LONG}", {**lines, **said, "Last-Modified": _MODIFIED})
            case _:
                return page(f"{path} {version} {LONG}", lines)


_MODIFIED = "Thu, 14 Jan 2027 08:00:00 GMT"


async def answer(visitor: Visitor, asked: Asked) -> bytes:
    """Read one response, as it comes; b"" where the connection is closed instead."""
    try:
        head = await visitor.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    status = int(head.split(b" ", 2)[1])
    if asked.method == "HEAD" or status in (204, 304):
        return head
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    body = await visitor.reader.readexactly(int(length)) if length else await visitor.reader.read()
    return head + body


@asynccontextmanager
async def world(store: Path, *, lanes: bool, memory: str = "128MiB") -> AsyncIterator[World]:
    """Run a proxy in front of an origin that has a page at each of PATHS."""
    async with ScriptedOrigin() as origin:
        configs = [_settings(origin.url, store, memory, ttl, told) for ttl, told in CONFIGS]
        made = World(origin, configs)
        worker = await Worker.start(configs[0], now=made.clock, load=lambda: configs[made.settings])
        if not lanes:
            worker.front.handle, worker.front.hot = worker.engine.handle, None
        made.proxy = Proxy(worker, made.clock)
        for path in PATHS:
            origin.on(path, made.script(path))
        try:
            yield made
        finally:
            for visitor in made.proxy.visitors:
                visitor.writer.close()
            await worker.stop(drain=1.0)


def _settings(origin: str, store: Path, memory: str, ttl: str, told: str) -> Settings:
    text = config(origin, store, ROUTES.format(ttl=ttl, told=told), max_entry=f"64MiB, memory: {memory}")
    return parse(text, file="test.yaml", environ={})
