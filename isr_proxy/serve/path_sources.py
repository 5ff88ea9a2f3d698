"""Where lists of paths come from: the config itself, files, and addresses at the origin.

Knows how a source is fetched, within bounds. Must not know what is done with the paths. Whatever host a
source names, only our own origin is ever asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import aiofiles

from isr_proxy.core.forward import USER_AGENT
from isr_proxy.core.http import Fields
from isr_proxy.core.settings import PathSource, PathSourceKind, Settings
from isr_proxy.errors import OriginError
from isr_proxy.origin.client import Answer, Client, Outgoing
from isr_proxy.serve.path_lists import MAX_BYTES, MAX_PATHS, BadList, parse_json, parse_lines, parse_sitemap
from isr_proxy.serve.targets import Target, hosts_of, parse_target, site_of

MAX_SITEMAPS: Final = 1000
_MAX_NESTING: Final = 3
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FIELDS: Final = Fields(((b"User-Agent", USER_AGENT), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")))


class SourceUnreadable(Exception):
    """A source gave no list of paths; says which, and why."""


class PathSources:
    """Reads sources of paths for one config."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._site = site_of(settings)
        self._client = client

    async def read(self, source: PathSource) -> list[str]:
        """Return the paths and URLs of a source, as they stand there. SourceUnreadable when it has none."""
        try:
            match source.kind:
                case PathSourceKind.PATH:
                    return [source.value]
                case PathSourceKind.FILE:
                    return await _read_file(source.value)
                case PathSourceKind.JSON:
                    return await asyncio.to_thread(parse_json, await self._fetch(source.value))
                case PathSourceKind.SITEMAP:
                    return [page async for page in self.sitemap(source.value)]
        except (OSError, ValueError, OriginError) as error:
            raise SourceUnreadable(f"{source.kind.value} {source.value}: {error}") from error

    async def sitemap(self, address: str) -> AsyncIterator[str]:
        """Yield the pages of a sitemap and of those it names. BadList or OriginError when one fails."""
        waiting, seen, given = [(address, 0)], {address}, 0
        while waiting:
            current, nesting = waiting.pop(0)
            found = await asyncio.to_thread(parse_sitemap, await self._fetch(current))
            for page in found.pages[: MAX_PATHS - given]:
                yield page
            given += len(found.pages)
            fresh = [nested for nested in dict.fromkeys(found.sitemaps) if nested not in seen]
            if fresh and (nesting >= _MAX_NESTING or len(seen) + len(fresh) > MAX_SITEMAPS):
                raise BadList(f"more than {MAX_SITEMAPS} sitemaps, or nested deeper than {_MAX_NESTING}")
            seen.update(fresh)
            waiting += [(nested, nesting + 1) for nested in fresh]

    async def _fetch(self, address: str) -> bytes:
        target = parse_target(address)
        for _ in range(_MAX_REDIRECTS + 1):
            async with asyncio.timeout(self._settings.origin.regenerate_timeout):
                answer = await self._ask(target)
                try:
                    moved = _moved_to(answer, target)
                    if moved is None:
                        return await _whole(answer)
                finally:
                    await answer.aclose()
            target = moved
        raise BadList("redirected too often")

    async def _ask(self, target: Target) -> Answer:
        host = self._settings.origin.host or hosts_of(target, self._site)[0]
        raw = target.path if target.query is None else f"{target.path}?{target.query}"
        return await self._client.fetch(Outgoing("GET", raw, host, _FIELDS))


def _moved_to(answer: Answer, target: Target) -> Target | None:
    """Return where a redirect leads, None where there is none. BadList for an error of the origin."""
    status, location = answer.head.status, answer.head.fields.first(b"location")
    if status in _REDIRECTS and location is not None:
        moved = parse_target(location)
        return moved if moved.host is not None else Target(target.host, moved.path, moved.query)
    if status != 200:
        raise BadList(f"the origin answered {status}")
    return None


async def _whole(answer: Answer) -> bytes:
    body = bytearray()
    async for chunk in answer.chunks():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadList(f"longer than {MAX_BYTES} bytes")
    return bytes(body)


async def _read_file(path: str) -> list[str]:
    async with aiofiles.open(path, encoding="utf-8") as file:
        text = await file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise BadList(f"longer than {MAX_BYTES} bytes")
    return parse_lines(text)
