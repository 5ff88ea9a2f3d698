"""`isr-proxy demo`: one worker in front of the demo's origin, or of an app of your own.

Knows which ports are free, the two demo configs, and what to tell a newcomer. Must not know what the
origin's pages say (demo_pages.py), nor how the command line is read.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from isr_proxy import __version__
from isr_proxy.core.settings import Settings, TcpAddress
from isr_proxy.run import config
from isr_proxy.run.demo_origin import build_origin_app
from isr_proxy.run.demo_pages import Addresses

PORTS_TRIED: Final = 100
LOOPBACK: Final = "127.0.0.1"  # where the admin and the demo's origin stay, whatever `host` says
DRAIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asked for; a port that is taken gives way to the next free one."""

    origin: str | None = None  # None: the demo's own
    host: str = "127.0.0.1"
    port: int = 8080
    admin_port: int = 8081
    origin_port: int = 8082
    store: str = "./.isr-cache"  # the demo's pages lie in a directory below


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Where everything will be."""

    options: DemoOptions
    listen: TcpAddress
    admin: TcpAddress
    own: TcpAddress | None  # where the demo's origin listens; None in front of another app
    store: str

    @property
    def origin_url(self) -> str:
        return self.options.origin or f"http://{self.own}"

    @property
    def addresses(self) -> Addresses:
        """Return what people type into a browser on this machine."""
        host = self.listen.host if self.listen.host not in ("0.0.0.0", "::") else "localhost"  # noqa: S104
        return Addresses(f"http://{TcpAddress(host, self.listen.port)}", f"http://{self.admin}")


async def run_demo(options: DemoOptions, *, say: Callable[[str], None] | None = None) -> None:
    """Run the demo until INT or TERM.

    Raises ConfigError for an origin that is no address of one, OSError when no port is free.
    """
    tell = say or print_now
    plan = make_plan(options)
    settings = demo_settings(plan)
    async with AsyncExitStack() as running:
        if plan.own is not None:
            await running.enter_async_context(serving_origin(plan.own, plan.addresses))
        await running.enter_async_context(serving_proxy(settings))
        tell(moved(plan) + greeting(plan))
        await stop_signal()
    tell(f"Stopped. The pages stay in {plan.store}: the next start has them.")


def make_plan(options: DemoOptions) -> DemoPlan:
    """Choose free ports, and a store that no other demo has open."""
    port = free_port(options.host, options.port)
    admin_port = free_port(LOOPBACK, options.admin_port, taken=(port,))
    own = None
    if options.origin is None:
        own = TcpAddress(LOOPBACK, free_port(LOOPBACK, options.origin_port, taken=(port, admin_port)))
    return DemoPlan(
        options,
        listen=TcpAddress(options.host, port),
        admin=TcpAddress(LOOPBACK, admin_port),
        own=own,
        store=store_of(options, port),
    )


def store_of(options: DemoOptions, port: int) -> str:
    """Return a directory for this origin and this port: two apps on one address must not share pages."""
    words = ["demo"]
    if options.origin is not None:
        words.append(re.sub(r"[^a-z0-9]+", "-", urlsplit(options.origin).netloc.lower()).strip("-"))
    if port != options.port:
        words.append(str(port))
    return f"{options.store}/{'-'.join(words)}"


def free_port(host: str, wanted: int, taken: tuple[int, ...] = ()) -> int:
    """Return the wanted port or the next that is free; 0 takes any. Raises OSError when there is none."""
    last = min(wanted + PORTS_TRIED, 65536) if wanted else 1
    for port in range(wanted, last):
        if port not in taken and (found := bindable(host, port)) is not None:
            return found
    raise OSError(f"no free port at {host} from {wanted} to {last - 1}")


def bindable(host: str, port: int) -> int | None:
    """Return the port if it can be listened on, the kernel's choice for 0, or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        bound: int = probe.getsockname()[1]
        return bound


def demo_settings(plan: DemoPlan) -> Settings:
    """Return the settings of a demo: its YAML with the plan's addresses. Raises ConfigError."""
    name = "demo.yaml" if plan.own is not None else "demo_own_app.yaml"
    environ = {
        "DEMO_LISTEN": str(plan.listen),
        "DEMO_ADMIN_LISTEN": str(plan.admin),
        "DEMO_ORIGIN_URL": plan.origin_url,
        "DEMO_STORE": plan.store,
    }
    return config.parse(files("isr_proxy.run").joinpath(name).read_text("utf-8"), file=name, environ=environ)


@asynccontextmanager
async def serving_origin(listen: TcpAddress, addresses: Addresses) -> AsyncIterator[None]:
    """Serve the demo's origin while the block runs."""
    app = build_origin_app(now=time.time, addresses=addresses)  # noqa: TID251  its pages show the wall clock
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving_proxy(settings: Settings) -> AsyncIterator[None]:
    """Serve the proxy while the block runs."""
    from isr_proxy.run.worker import Worker

    worker = await Worker.start(settings, now=time.time)  # noqa: TID251  the process's one clock
    try:
        yield
    finally:
        await worker.stop(drain=DRAIN_SECONDS)


async def stop_signal() -> None:
    """Wait for INT or TERM; a second one stops at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def greeting(plan: DemoPlan) -> str:
    """Return the banner that fits the plan."""
    page_url, admin_url = plan.addresses.page_url, plan.addresses.admin_url
    if plan.own is None:
        return own_app_banner(page_url, admin_url, plan.origin_url)
    return banner(page_url, admin_url)


def moved(plan: DemoPlan) -> str:
    """Return a line for each port that was taken, or nothing."""
    wanted = (("page", plan.options.port, plan.listen), ("dashboard", plan.options.admin_port, plan.admin))
    return "".join(
        f"Port {port} is taken: the {what} is on {address.port}.\n"
        for what, port, address in wanted
        if port not in (0, address.port)
    )


def banner(page_url: str, dashboard_url: str) -> str:
    """Return what a newcomer is told: where to look, and three things to try."""
    base = page_url.rstrip("/")
    return f"""
  isr-proxy {__version__} in front of a demo site

    Page        {base}/
    Dashboard   {dashboard_url.rstrip("/")}/

  Three things to try, with the page open (or by curl):

    1. Stale while revalidate. The page is fresh for 5 seconds; then one visitor gets the old one
       at once (X-Cache: STALE) while a new one is made behind.
         curl -si {base}/ | grep -iE '^(x-cache|age|cache-status)'

    2. Slow the origin down by five seconds. Every answer still takes milliseconds.
         curl -X POST '{base}/_demo/slow?seconds=5'

    3. Break it. The last good page goes on being served, until you heal the origin.
         curl -X POST {base}/_demo/break
         curl -X POST {base}/_demo/heal

  Ctrl-C stops. Start it again: it has forgotten nothing.
"""


def own_app_banner(page_url: str, dashboard_url: str, origin_url: str) -> str:
    """Return what the owner of an app is told: what happens now, and how routes are written."""
    base = page_url.rstrip("/")
    return f"""
  isr-proxy {__version__} in front of {origin_url}

    Page        {base}/
    Dashboard   {dashboard_url.rstrip("/")}/

  It obeys your app's own Cache-Control: what does not say that it may be shared, passes.

  Three things to try:

    1. See what it thinks of a page.
         curl -si {base}/ | grep -iE '^(x-cache|age|cache-status)'

    2. Say yourself how long pages are fresh. Write this into isr-proxy.yaml, and put the name of your
       app's session cookie there, so that whoever is logged in passes:

         origin:
           url: {origin_url}
         routes:
           - match: /**
             revalidate: 10s
             bypass: {{cookies: [sessionid]}}

         isr-proxy check isr-proxy.yaml && isr-proxy serve --config isr-proxy.yaml

    3. Stop your app, and reload a page that was stored: it is still served.

  Ctrl-C stops.
"""


def print_now(text: str) -> None:
    """Print without waiting for a full buffer: `make run` may be read by a program."""
    print(text, flush=True)
