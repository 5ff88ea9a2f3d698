"""The config's public face: load, parse, for_origin, diff."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isr_proxy.core.settings import (
    AdminSettings,
    BypassRules,
    PathSourceKind,
    Route,
    StoreSettings,
    TcpAddress,
)
from isr_proxy.errors import ConfigError
from isr_proxy.run import config

OLD = config.for_origin("http://localhost:3000")


def test_load_reads_a_file_with_this_process_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP", "http://app:3000")
    (tmp_path / "isr.yaml").write_text("origin: {url: ['${APP}', 'http://b:1']}")
    assert config.load(tmp_path / "isr.yaml").origin.urls == ("http://app:3000", "http://b:1")


def test_files_to_prerender_are_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "isr.yaml").write_text("routes: [{match: /, prerender: [{file: paths.txt}]}]")
    source = config.load(tmp_path / "isr.yaml").routes[0].prerender[0]
    assert (source.kind, source.value) == (PathSourceKind.FILE, str(tmp_path / "paths.txt"))


def test_for_origin_is_one_route_that_obeys_the_origin() -> None:
    settings = config.for_origin("http://app:1/", listen=":9", admin_listen="[::1]:7", store_path="/s")
    drafts = BypassRules(cookies=("__prerender_bypass", "__next_preview_data"))
    assert settings.routes == (Route("/**", bypass=drafts),)
    assert settings.origin.urls == ("http://app:1",)
    assert settings.listen == (TcpAddress("0.0.0.0", 9),)
    assert (settings.admin, settings.store) == (AdminSettings(TcpAddress("::1", 7)), StoreSettings("/s"))


def test_for_origin_names_every_bad_argument() -> None:
    with pytest.raises(ConfigError) as caught:
        config.for_origin("app", listen="x", admin_token="short")
    assert [p.path for p in caught.value.problems] == ["listen", "origin.url", "admin.token"]
    assert {p.file for p in caught.value.problems} == {"command line"}


def test_diff_of_the_same_is_nothing() -> None:
    assert config.diff(OLD, OLD) == config.Changes()


def test_diff_says_what_only_a_restart_applies() -> None:
    new = replace(
        OLD,
        listen=(TcpAddress("::1", 80),),
        workers=2,
        store=StoreSettings("/new"),
        admin=AdminSettings(TcpAddress("::1", 7)),
        routes=(),
    )
    changes = config.diff(OLD, new)
    assert changes.keys == ("listen", "workers", "store", "admin", "routes")
    assert changes.needs_restart == (
        "listen: 0.0.0.0:8080 -> [::1]:80 needs a restart",
        "workers: 1 -> 2 needs a restart",
        "store.path: ./.isr-cache -> /new needs a restart",
        "admin.listen: 127.0.0.1:8081 -> [::1]:7 needs a restart",
    )


def test_diff_of_what_a_reload_applies_needs_no_restart() -> None:
    new = replace(OLD, routes=(Route("/a"),), admin=replace(OLD.admin, token="x" * 32))
    assert config.diff(OLD, new) == config.Changes(("admin", "routes"))
