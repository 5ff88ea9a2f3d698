"""Who may use the admin port: the token, and the rules for a port without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isr_proxy.serve.admin_guard import is_loopback_name
from tests.admin.rig import TOKEN, Rig, running, settings, with_token
from tests.scripted_origin import ScriptedOrigin


@pytest.fixture
async def guarded(origin: ScriptedOrigin, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(settings(origin.url, tmp_path, admin=with_token())) as rig:
        yield rig


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(None, 401), ("Basic abc", 401), ("Bearer ", 401), ("Bearer wrong", 403), (f"bearer {TOKEN}", 200)],
)
async def test_token(guarded: Rig, authorization: str | None, status: int) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await guarded.get("/v1/status", headers)
    assert answer.status == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_every_call_needs_the_token(guarded: Rig) -> None:
    for path in ("/", "/v1/entries", "/v1/openapi.json", "/v1/events", "/none"):
        assert (await guarded.get(path)).status == 401
    for path in ("/v1/purge", "/v1/revalidate", "/v1/prerender", "/v1/reload"):
        assert (await guarded.post(path, {"all": True})).status == 401
    assert (await guarded.purge("/a")).status == 401
    assert len(await guarded.purges.records(0)) == 1


async def test_health_and_loopback_metrics_need_none(guarded: Rig) -> None:
    assert [(await guarded.get(path)).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_without_token_a_browser_cannot_be_made_to_ask(rig: Rig, headers: dict[str, str]) -> None:
    assert (await rig.post("/v1/purge", {"all": True}, headers)).status == 403
    assert len(await rig.purges.records(0)) == 1


async def test_without_token_a_form_cannot_post(rig: Rig) -> None:
    async with rig.session.post(f"{rig.admin}/v1/purge", data=b'{"all": true}') as response:
        assert response.status == 415


async def test_own_origin_may_ask(rig: Rig) -> None:
    assert (await rig.get("/v1/status", {"Origin": rig.admin, "Host": "localhost:8081"})).status == 200


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "a.localhost"]
)
def test_loopback_names(name: str) -> None:
    assert is_loopback_name(name)


@pytest.mark.parametrize("name", ["", "example.org", "10.0.0.1", "localhost.evil.example", "::2", "0.0.0.0"])
def test_other_names(name: str) -> None:
    assert not is_loopback_name(name)
