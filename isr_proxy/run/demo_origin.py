"""The demo's origin: a small site that shows when each page was made, and can be slowed down or broken.

Knows aiohttp.web and its own pages. Must not know that a proxy stands in front of it: it is an app like
any other, and everything the demo shows is done by the proxy.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, assert_never
from urllib.parse import urlsplit

from aiohttp import web

from isr_proxy.run import demo_pages
from isr_proxy.run.demo_pages import DEFAULT_ADDRESSES, Addresses, Made

USER_COOKIE: Final = "demo_user"
MAX_SLOW_SECONDS: Final = 30.0
SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
NAME: Final = re.compile(r"[\w .'-]{1,40}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Mood(Enum):
    """How the origin answers for its pages; the switches themselves always work."""

    WELL = "well"
    SLOW = "slow"  # the right page, late
    BROKEN = "broken"  # 500
    TRUNCATED = "truncated"  # half of the promised bytes, then the connection is cut
    HANGING = "hanging"  # nothing at all, until it is healed


@dataclass(slots=True)
class Switches:
    """What the buttons have set; requests that hang wait for `well`."""

    mood: Mood = Mood.WELL
    slow_seconds: float = 0.0
    well: asyncio.Event = field(default_factory=asyncio.Event)
    hanging: int = 0  # requests that wait for it now

    def turn(self, mood: Mood, slow_seconds: float = 0.0) -> None:
        """Change the mood; requests that hang are answered once it is no longer HANGING."""
        self.mood = mood
        self.slow_seconds = slow_seconds
        if mood is Mood.HANGING:
            self.well.clear()
        else:
            self.well.set()

    async def hang(self) -> None:
        """Wait until the mood is no longer HANGING."""
        self.hanging += 1
        try:
            await self.well.wait()
        finally:
            self.hanging -= 1


@dataclass(slots=True)
class DemoOrigin:
    """The site: its switches, and how often it has made each page."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    addresses: Addresses
    switches: Switches = field(default_factory=Switches)
    made: Counter[str] = field(default_factory=Counter)

    def make(self, path: str) -> Made:
        """Count one more generation of a path."""
        self.made[path] += 1
        return Made(path, self.now(), self.made[path], self.made.total(), self.addresses)

    async def home(self, request: web.Request) -> web.Response:
        return page(demo_pages.home(self.make(request.path)))

    async def post(self, request: web.Request) -> web.Response:
        slug = request.match_info["slug"]
        if not SLUG.fullmatch(slug):
            return await self.missing(request)
        return page(demo_pages.post(self.make(request.path), slug))

    async def news(self, request: web.Request) -> web.Response:
        return page(demo_pages.news(self.make(request.path)))

    async def account(self, request: web.Request) -> web.Response:
        made = self.make(request.path)
        user = request.cookies.get(USER_COOKIE, "")
        if not NAME.fullmatch(user):
            return page(demo_pages.account(made))
        answer = page(demo_pages.account_of(made, user))
        answer.headers["Cache-Control"] = "private, no-store"
        return answer

    async def time(self, request: web.Request) -> web.Response:
        made = self.make(request.path)
        return web.json_response({"path": made.path, "made_at": made.at, "generation": made.generation})

    async def missing(self, request: web.Request) -> web.Response:
        return page(demo_pages.missing(self.make(request.path)), status=404)

    async def state(self, request: web.Request) -> web.Response:
        """Answer what the switches say, and how many pages were made; never stored."""
        switches = self.switches
        body = {
            "mood": switches.mood.value,
            "slow_seconds": switches.slow_seconds,
            "hanging": switches.hanging,
            "made": self.made.total(),
        }
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def switch(self, request: web.Request) -> web.Response:
        """Turn a switch, by button (POST) or by curl (GET)."""
        match request.match_info["switch"]:
            case "slow":
                self.switches.turn(Mood.SLOW, slow_seconds(request.query.get("seconds", "5")))
            case "break":
                self.switches.turn(Mood.BROKEN)
            case "truncate":
                self.switches.turn(Mood.TRUNCATED)
            case "hang":
                self.switches.turn(Mood.HANGING)
            case "heal":
                self.switches.turn(Mood.WELL)
            case unknown:
                raise web.HTTPNotFound(text=f"no such switch: {unknown}\n")
        return await self.state(request) if wants_json(request) else back(request)

    async def login(self, request: web.Request) -> web.Response:
        answer = back(request)
        name = request.query.get("name", "Ada")
        answer.set_cookie(USER_COOKIE, name if NAME.fullmatch(name) else "Ada", httponly=True, samesite="Lax")
        return answer

    async def logout(self, request: web.Request) -> web.Response:
        answer = back(request)
        answer.del_cookie(USER_COOKIE)
        return answer

    async def heal_at_shutdown(self, app: web.Application) -> None:
        """Let go of every request that hangs, or stopping would wait for them."""
        self.switches.turn(Mood.WELL)

    async def in_this_mood(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer for a page as the switches say."""
        match self.switches.mood:
            case Mood.WELL:
                return await handler(request)
            case Mood.SLOW:
                await self.sleep(self.switches.slow_seconds)
                return await handler(request)
            case Mood.BROKEN:
                return web.Response(status=500, text="The demo origin is broken: you pressed the button.\n")
            case Mood.TRUNCATED:
                return await half_of(await handler(request), request)
            case Mood.HANGING:
                await self.switches.hang()
                return await handler(request)
            case unknown:
                assert_never(unknown)


def build_origin_app(
    *,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    addresses: Addresses = DEFAULT_ADDRESSES,
) -> web.Application:
    """Return the demo site; `now` is what its pages show, `sleep` what makes it slow."""
    origin = DemoOrigin(now, sleep, addresses)

    @web.middleware
    async def mood(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_demo/"):
            return await handler(request)
        return await origin.in_this_mood(request, handler)

    app = web.Application(middlewares=[mood])
    app.add_routes(routes_of(origin))
    app.on_shutdown.append(origin.heal_at_shutdown)
    return app


def routes_of(origin: DemoOrigin) -> list[web.RouteDef]:
    """Return every address of the site; the last one is everything that is not there."""
    return [
        web.get("/", origin.home),
        web.get("/blog/{slug}", origin.post),
        web.get("/news", origin.news),
        web.get("/account", origin.account),
        web.get("/api/time", origin.time),
        web.get("/_demo/state", origin.state),
        web.get("/_demo/login", origin.login),
        web.get("/_demo/logout", origin.logout),
        web.get("/_demo/{switch}", origin.switch),
        web.post("/_demo/{switch}", origin.switch),
        web.get("/{path:.*}", origin.missing),
    ]


def page(html: str, status: int = 200) -> web.Response:
    """Return an HTML response."""
    return web.Response(status=status, text=html, content_type="text/html")


def slow_seconds(text: str) -> float:
    """Return the seconds that a visitor asked for, or raise 400."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= MAX_SLOW_SECONDS:
        raise web.HTTPBadRequest(text=f"seconds: a number from 0 to {MAX_SLOW_SECONDS:g}\n")
    return seconds


def wants_json(request: web.Request) -> bool:
    """Tell a script or curl from a form that was sent by a browser."""
    return "text/html" not in request.headers.get("Accept", "")


def back(request: web.Request) -> web.Response:
    """Return a redirect to the page the visitor came from; to this site only, whatever Referer says."""
    path = urlsplit(request.headers.get("Referer", "")).path
    safe = path if path.startswith("/") and not path.startswith(("//", "/_demo", "/\\")) else "/"
    return web.Response(status=303, headers={"Location": safe, "Cache-Control": "no-store"})


async def half_of(answer: web.StreamResponse, request: web.Request) -> web.StreamResponse:
    """Send half of the body that Content-Length promises, and cut the connection."""
    assert isinstance(answer, web.Response)
    body = answer.body
    assert isinstance(body, bytes)
    cut = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut
