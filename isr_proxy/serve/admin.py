"""The admin API over HTTP: each call of the contract, and the PURGE method.

Knows how a call's JSON becomes an operation and back. Must not know how an operation is done
(operations.py), who may call (admin_guard.py), or which socket it listens on (run/).
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ValidationError

from isr_proxy import __version__
from isr_proxy.core.http import Fields
from isr_proxy.errors import Problem
from isr_proxy.serve.admin_guard import error_response, guard, say_errors_in_json
from isr_proxy.serve.admin_models import (
    EntriesReply,
    EntryReply,
    ExplainReply,
    HealthReply,
    JobReply,
    JobsReply,
    PrerenderBody,
    PurgeBody,
    PurgeReply,
    RegenerationsStatus,
    ReloadReply,
    RevalidateBody,
    RevalidateReply,
    StatusReply,
)
from isr_proxy.serve.inventory import Condition
from isr_proxy.serve.observe import Snapshot
from isr_proxy.serve.openapi import Call, document
from isr_proxy.serve.operations import NothingSelected, Operations
from isr_proxy.serve.purge_method import carry_out
from isr_proxy.serve.watchers import Event

MAX_BODY_BYTES: Final = 1024 * 1024
_LIMIT_DEFAULT: Final = 100
_LIMIT_MAX: Final = 1000
_KEEPALIVE_SECONDS: Final = 15.0

Body = TypeVar("Body", bound=BaseModel)

CALLS: Final = (
    Call("POST", "/v1/purge", "purge", "Purge what is selected", PurgeReply, PurgeBody),
    Call(
        "POST",
        "/v1/revalidate",
        "revalidate",
        "Mark stale what is selected, and regenerate it",
        RevalidateReply,
        RevalidateBody,
    ),
    Call(
        "POST",
        "/v1/prerender",
        "prerender",
        "Make pages ahead of visitors",
        JobReply,
        PrerenderBody,
        status=202,
    ),
    Call("GET", "/v1/jobs", "jobs", "The newest jobs", JobsReply),
    Call("GET", "/v1/jobs/{id}", "job", "A job's progress", JobReply),
    Call(
        "GET",
        "/v1/entries",
        "entries",
        "What is stored",
        EntriesReply,
        query=(
            ("prefix", "paths that begin so"),
            ("tag", "with this tag"),
            ("state", "fresh, stale, purged, error or unrouted"),
            ("limit", f"at most {_LIMIT_MAX}"),
            ("cursor", "of the page before"),
        ),
    ),
    Call(
        "GET",
        "/v1/entry",
        "entry",
        "What is stored for one URL",
        EntryReply,
        query=(("url", "absolute, or a path"),),
    ),
    Call(
        "GET",
        "/v1/explain",
        "explain",
        "What would happen to a request, and why",
        ExplainReply,
        query=(("url", "absolute, or a path"), ("header", "Name:value, any number of them")),
    ),
    Call("GET", "/v1/status", "status", "The process in numbers", StatusReply),
    Call("GET", "/v1/events", "events", "Server-sent events: visits, regenerations, purges"),
    Call("POST", "/v1/reload", "reload", "Read the config again", ReloadReply),
    Call("GET", "/v1/openapi.json", "openapi", "This document"),
    Call("GET", "/metrics", "metrics", "Prometheus text"),
    Call("GET", "/healthz", "health", "The process is alive", HealthReply, needs_token=False),
    Call("GET", "/readyz", "ready", "It can serve", HealthReply, needs_token=False),
)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload: `problems` of a config that was refused, or what only a restart can change."""

    problems: Sequence[Problem] = ()
    needs_restart: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What of the numbers is of all workers together, beside those of Snapshot."""

    workers_alive: int
    worker_restarts: int
    flying: int
    bad_entries: int
    failures: int
    evictions: int


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the admin API speaks for."""

    operations: Operations
    render_metrics: Callable[[], bytes]
    snapshot: Callable[[], Snapshot]
    reload: Callable[[], Awaitable[Reloaded]]
    is_ready: Callable[[], bool]
    gather: Callable[[], Awaitable[HostStatus]]  # before numbers are given: have those of all workers


def alone(operations: Operations) -> Callable[[], Awaitable[HostStatus]]:
    """Return the numbers of a worker that is the only one."""

    async def gather() -> HostStatus:
        stat = operations.disk.stat()
        flying = len(operations.engine.flights)
        return HostStatus(1, 0, flying, stat.bad_entries, stat.failures, stat.evictions)

    return gather


def application(wiring: Wiring) -> web.Application:
    """Build the application; run it with `web.AppRunner`."""
    engine = wiring.operations.engine
    admin = Admin(wiring)
    middlewares: list[Middleware] = [
        say_errors_in_json,
        guard(lambda: engine.settings.admin.token),
        admin.purge_method,
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    for call in CALLS:
        app.router.add_route(call.method, call.path, getattr(admin, call.handler))
    app.router.add_get("/", admin.front_page)
    app.on_shutdown.append(admin.dismiss_watchers)
    return app


class Admin:
    """The handlers."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._operations = wiring.operations

    # --- doing ---

    async def purge(self, request: web.Request) -> web.Response:
        body = await _read(request, PurgeBody)
        work = self._operations.dry_run if body.dry_run else self._operations.purge
        done = await work(body.selection(), body.strength)
        return _reply(PurgeReply(sequence=done.sequence, matched=done.matched))

    async def revalidate(self, request: web.Request) -> web.Response:
        body = await _read(request, RevalidateBody)
        purged, batch = await self._operations.revalidate(body.selection())
        results = None
        if body.wait:
            await batch.ended()
            results = list(batch.results)
        reply = RevalidateReply(
            sequence=purged.sequence, matched=purged.matched, job=batch.id, results=results
        )
        return _reply(reply, status=200 if body.wait else 202)

    async def prerender(self, request: web.Request) -> web.Response:
        body = await _read(request, PrerenderBody)
        if not body.paths and body.sitemap is None:
            raise NothingSelected("nothing to prerender; give paths or a sitemap")
        batch = self._operations.warmer.prerender(body.paths, body.sitemap)
        return _reply(JobReply.of(batch), status=202)

    async def reload(self, request: web.Request) -> web.Response:
        reloaded = await self._wiring.reload()
        problems = [str(problem) for problem in reloaded.problems]
        if problems:
            return error_response(422, "the config is not changed: the new one has errors", problems)
        return _reply(ReloadReply(needs_restart=list(reloaded.needs_restart)))

    @web.middleware
    async def purge_method(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer PURGE of whatever path, before the calls' own paths count."""
        if request.method != "PURGE":
            return await handler(request)
        status, content = await carry_out(self._operations, request.raw_path, Fields(request.raw_headers))
        return web.json_response(content, status=status, headers={"Cache-Control": "no-store"})

    # --- looking ---

    async def jobs(self, request: web.Request) -> web.Response:
        return _reply(JobsReply(jobs=[JobReply.of(batch) for batch in self._operations.batches.newest()]))

    async def job(self, request: web.Request) -> web.Response:
        batch = self._operations.batches.find(request.match_info["id"])
        if batch is None:
            return error_response(404, "no such job; only the newest are remembered")
        return _reply(JobReply.of(batch))

    async def entries(self, request: web.Request) -> web.Response:
        asked = request.query
        state = _condition(asked["state"]) if asked.get("state") else None
        entries, cursor = await self._operations.inventory.entries(
            asked.get("prefix", ""), asked.get("tag"), state, _limit(asked.get("limit")), asked.get("cursor")
        )
        is_complete = self._operations.disk.catalog.is_complete
        return _reply(EntriesReply(entries=entries, cursor=cursor, complete=is_complete))

    async def entry(self, request: web.Request) -> web.Response:
        url = _wanted_url(request)
        entries = await self._operations.inventory.entry(url)
        if not entries:
            return error_response(404, f"nothing is stored for {url}")
        return _reply(EntryReply(url=url, entries=entries))

    async def explain(self, request: web.Request) -> web.Response:
        fields = Fields(_header(text) for text in request.query.getall("header", []))
        explained = await self._operations.explainer.explain(_wanted_url(request), fields)
        return _reply(ExplainReply(**{**asdict(explained), "steps": explained.steps}))

    async def status(self, request: web.Request) -> web.Response:
        host = await self._wiring.gather()
        operations, counts = self._operations, self._wiring.snapshot()
        engine = operations.engine
        flying = RegenerationsStatus(flying=host.flying, by_reason=dict(counts.regenerations))
        store = replace(
            operations.disk.stat(),
            bad_entries=host.bad_entries,
            failures=host.failures,
            evictions=host.evictions,
        )
        return _reply(
            StatusReply(
                version=__version__,
                uptime=operations.now() - operations.started_at,
                workers=engine.settings.workers,
                workers_alive=host.workers_alive,
                worker_restarts=host.worker_restarts,
                requests=dict(counts.requests),
                hit_ratio=counts.hit_ratio,
                regenerations=flying,
                origins=operations.client.health,
                store=store,
                purge_sequence=engine.purges.index.sequence,
            )
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        watchers = self._operations.watchers
        if not watchers.has_room:
            return error_response(503, "as many watch as may")
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        with watchers.watching() as queue:
            await response.prepare(request)
            with suppress(ConnectionError):  # a watcher may leave whenever he likes
                while (text := await _next_event(queue)) is not None:
                    await response.write(text.encode())
        return response

    async def dismiss_watchers(self, _: web.Application) -> None:
        """End the event streams, which would hold up a stop."""
        self._operations.watchers.dismiss()

    async def metrics(self, request: web.Request) -> web.Response:
        await self._wiring.gather()
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._wiring.render_metrics(), headers=headers)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(document(CALLS, __version__))

    async def health(self, request: web.Request) -> web.Response:
        return _reply(HealthReply(status="alive"))

    async def ready(self, request: web.Request) -> web.Response:
        if self._wiring.is_ready():
            return _reply(HealthReply(status="ready"))
        return _reply(HealthReply(status="not ready"), status=503)

    async def front_page(self, request: web.Request) -> web.Response:
        links = "".join(
            f'<li><a href="{path}">{path}</a></li>' for path in ("/v1/status", "/metrics", "/v1/openapi.json")
        )
        title = f"isr-proxy {html.escape(__version__)}"
        page = f"<!doctype html><title>{title}</title><h1>{title}</h1><ul>{links}</ul>\n"
        return web.Response(text=page, content_type="text/html")


async def _next_event(queue: asyncio.Queue[Event | None]) -> str | None:
    """Return the next event as it is sent, or a comment that keeps the connection open; None at the end."""
    try:
        async with asyncio.timeout(_KEEPALIVE_SECONDS):
            event = await queue.get()
    except TimeoutError:
        return ":\n\n"
    return None if event is None else f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _reply(reply: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(
        text=reply.model_dump_json(), status=status, headers={"Cache-Control": "no-store"}
    )


async def _read(request: web.Request, model: type[Body]) -> Body:
    """Read a body of the model's shape; ValueError with every key that is wrong."""
    raw = await request.read()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise WrongBody(error) from error


class WrongBody(ValueError):
    """A body is not of its shape; `errors` has a line for each wrong key."""

    def __init__(self, error: ValidationError) -> None:
        self.errors = [
            f"{'.'.join(str(part) for part in each['loc']) or 'body'}: {each['msg']}"
            for each in error.errors()
        ]
        super().__init__("; ".join(self.errors))


def _condition(text: str) -> Condition:
    try:
        return Condition(text)
    except ValueError:
        allowed = ", ".join(condition.value for condition in Condition)
        raise ValueError(f"state: {text!r} is none of {allowed}") from None


def _limit(text: str | None) -> int:
    if text is None:
        return _LIMIT_DEFAULT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LIMIT_MAX:
        raise ValueError(f"limit: a number from 1 to {_LIMIT_MAX} is wanted")
    return int(text)


def _wanted_url(request: web.Request) -> str:
    url = request.query.get("url")
    if not url:
        raise ValueError("url: an absolute URL or a path is wanted")
    return url


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"header: {text!r} is not of the form Name:value")
    return name.strip().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")
