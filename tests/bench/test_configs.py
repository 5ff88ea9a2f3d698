"""How the compared servers are configured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import configs
from bench.configs import USUAL, Place, Setup
from bench.processes import path_of
from isr_proxy.run.config import parse

LOGGING = Setup(has_access_log=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, 21_001, 21_002, 21_003)


@pytest.mark.parametrize(
    ("setup", "memory", "has_log"),
    [(USUAL, 128 * 1024 * 1024, False), (Setup(memory="0"), 0, False), (LOGGING, 128 * 1024 * 1024, True)],
)
def test_isr_proxys_is_right(place: Place, setup: Setup, memory: int, has_log: bool) -> None:
    settings = parse(configs.isr_proxy(place, setup), file="isr.yaml", environ={})
    assert (settings.store.memory, settings.log.access) == (memory, has_log)
    assert [route.match for route in settings.routes] == ["/pass/**", "/gzip/**", "/**"]


@pytest.mark.parametrize("setup", [USUAL, LOGGING, Setup(workers=4)])
def test_nginxs_is_right(place: Place, setup: Setup) -> None:
    nginx = path_of("nginx")
    assert nginx is not None
    file = place.directory / "nginx.conf"
    file.write_text(configs.nginx(place, setup, user=None, files=20_000))
    done = subprocess.run([nginx, "-t", "-c", file, "-p", place.directory], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("setup", [USUAL, LOGGING, Setup(workers=4)])
def test_haproxys_is_right(place: Place, setup: Setup) -> None:
    haproxy = path_of("haproxy")
    if haproxy is None:
        pytest.skip("HAProxy is for the benchmark only")
    file = place.directory / "haproxy.cfg"
    file.write_text(configs.haproxy(place, setup))
    done = subprocess.run([haproxy, "-c", "-f", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_log_but_where_it_is_asked_for(place: Place) -> None:
    assert "access_log off;" in configs.nginx(place, USUAL, user=None, files=20_000)
    assert "access.log combined" in configs.nginx(place, LOGGING, user=None, files=20_000)
    assert "log" not in configs.haproxy(place, USUAL).replace("backlog", "")
    assert "option httplog" in configs.haproxy(place, LOGGING)


def test_each_has_as_many_workers_as_are_asked_for(place: Place) -> None:
    two = Setup(workers=2)
    assert "\nworkers: 2\n" in configs.isr_proxy(place, two)
    assert "worker_processes 2;" in configs.nginx(place, two, user=None, files=20_000)
    assert "nbthread 2\n" in configs.haproxy(place, two)
    assert "thread_pools=2" in configs.varnish_arguments(place, two)


def test_nginx_keeps_files_open_for_visitors(place: Place) -> None:
    text = configs.nginx(place, USUAL, user=None, files=20_000)
    assert "worker_rlimit_nofile 20000;" in text
    assert "open_file_cache max=10000 " in text
