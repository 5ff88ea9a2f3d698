"""What is shipped: the wheel, the image, compose, the systemd unit, the Makefile and the CI script.

There is no container engine here: the Dockerfile is parsed, and its builder steps and its health check
are run for real, outside of a container.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from isr_proxy.core.settings import Settings, TcpAddress
from isr_proxy.run import config

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "isr_proxy", "examples")
TOKEN = "0123456789abcdef0123456789abcdef"

Stage = list[tuple[str, str]]
MakeServer = Callable[[web.Application], Awaitable[TestServer]]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def stages_of(dockerfile: str) -> list[Stage]:
    """Return the instructions of each stage as (word, argument), lines joined and comments dropped."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in filter(None, (line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines())):
        word, _, argument = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, " ".join(argument.split())))
    return stages


BUILDER, IMAGE = stages_of(read("Dockerfile"))


def the(word: str, stage: Stage = IMAGE) -> str:
    """Return the argument of an instruction that must be there exactly once."""
    [argument] = [argument for found, argument in stage if found == word]
    return argument


def parsed(name: str, environ: Mapping[str, str]) -> Settings:
    return config.parse(read(name), file=name, environ=environ)


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=100, **options)


# The image.


def test_the_image_runs_as_a_fixed_user_that_is_not_root() -> None:
    assert the("USER") == "10001:10001"
    assert "--uid 10001" in the("RUN")


def test_the_image_is_stopped_by_the_signal_that_drains() -> None:
    assert the("STOPSIGNAL") == "SIGTERM"
    assert json.loads(the("ENTRYPOINT")) == ["isr-proxy"]  # no shell that would swallow the signal


def test_the_image_serves_the_config_that_lies_in_it() -> None:
    *_, path = json.loads(the("CMD"))
    assert [argument for word, argument in IMAGE if word == "COPY" and argument.endswith(f" {path}")]


def test_the_images_config_fits_the_image() -> None:
    settings = parsed("examples/container.yaml", {"ISR_ORIGIN_URL": "http://app:3000"})
    assert settings.store.path == the("VOLUME") == the("WORKDIR")
    assert settings.origin.urls == ("http://app:3000",)
    assert {str(settings.listen[0]), str(settings.admin.listen)} == {"0.0.0.0:8080", "127.0.0.1:8081"}
    assert the("EXPOSE") == "8080 8081"


def test_the_images_admin_can_be_opened_with_a_token() -> None:
    settings = parsed(
        "examples/container.yaml", {"ISR_ADMIN_LISTEN": "0.0.0.0:8081", "ISR_ADMIN_TOKEN": TOKEN}
    )
    assert settings.admin.listen == TcpAddress("0.0.0.0", 8081)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_the_health_check_believes_the_admin_only(
    aiohttp_server: MakeServer, status: int, code: int
) -> None:
    async def healthz(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    server = await aiohttp_server(app)
    assert await health_check(server.port) == code


async def test_the_health_check_fails_when_nobody_listens(unused_tcp_port: int) -> None:
    assert await health_check(unused_tcp_port) != 0


async def health_check(port: int | None) -> int:
    """Run the image's own HEALTHCHECK against another port; returns its exit code."""
    command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    code = command[2].replace("8081", str(port))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stderr=asyncio.subprocess.DEVNULL,
        env={"http_proxy": "http://127.0.0.1:1"},
    )
    return await process.wait()


def test_what_the_image_copies_is_in_the_build_context() -> None:
    copied = [part for word, argument in BUILDER + IMAGE if word == "COPY" for part in argument.split()[:-1]]
    allowed = {line.removeprefix("!") for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert {name for name in copied if not name.startswith(("--", "/"))} == allowed
    assert [name for name in allowed if not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the builder's RUN steps in a clean environment; returns the folder that holds `src` and `opt`."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    venv.create(folder / "base", with_pip=True, symlinks=True)
    environ = os.environ | {
        "PATH": f"{folder}/base/bin:{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    for step in (argument for word, argument in BUILDER if word == "RUN"):
        command = step.replace("/opt/isr-proxy", f"{folder}/opt").replace("--no-cache-dir ", "")
        done = run("sh", "-euc", command, cwd=source, env=environ)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return folder


@pytest.mark.slow
def test_the_images_steps_build_a_wheel_with_everything_in_it(built: Path) -> None:
    [wheel] = (built / "src" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    shipped = {path.relative_to(ROOT).as_posix() for path in data_files()}
    assert (
        {"isr_proxy/py.typed", "isr_proxy/run/demo.yaml", "isr_proxy/run/demo_page.html"} <= shipped <= inside
    )
    assert any(name.endswith("/licenses/LICENSE") for name in inside)
    assert not any(name.startswith(("tests/", "bench/", "examples/")) for name in inside)


def data_files() -> list[Path]:
    """Return what lies in the package besides Python."""
    files = (path for path in (ROOT / "isr_proxy").rglob("*") if path.is_file())
    return [path for path in files if path.suffix not in (".py", ".pyc")]


@pytest.mark.slow
def test_the_images_environment_imports_the_package_and_its_data(built: Path) -> None:
    code = "from isr_proxy.run import demo_pages; demo_pages.template(); print(demo_pages.__file__)"
    done = run(built / "opt" / "bin" / "python", "-Ic", code, cwd=built)
    assert done.returncode == 0, done.stderr
    assert f"{built}/opt/lib/" in done.stdout


@pytest.mark.slow
def test_the_images_command_checks_the_images_config(built: Path) -> None:
    command = built / "opt" / "bin" / the("ENTRYPOINT").strip('["]')
    done = run(command, "check", built / "src" / "examples" / "container.yaml", cwd=built)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_images_environment_holds_no_installer_and_no_test_tools(built: Path) -> None:
    packages = {path.name for path in (built / "opt" / "lib").glob("python*/site-packages/*")}
    assert "aiohttp" in packages
    assert packages & {"pip", "setuptools", "pytest", "mypy"} == set()


# Compose and its example app.


def test_compose_gives_the_proxy_its_store_its_config_and_its_token() -> None:
    proxy = yaml.safe_load(read("compose.yaml"))["services"]["proxy"]
    places = [volume.split(":")[1] for volume in proxy["volumes"]]
    assert places == [the("VOLUME"), json.loads(the("CMD"))[-1]]
    assert proxy["environment"]["ISR_ADMIN_TOKEN"].startswith("${ISR_ADMIN_TOKEN:?")
    assert "127.0.0.1:8081:8081" in proxy["ports"]


def test_compose_mounts_files_that_exist() -> None:
    services = yaml.safe_load(read("compose.yaml"))["services"].values()
    sources = [volume.split(":")[0] for service in services for volume in service["volumes"]]
    assert [source for source in sources if source.startswith(".") and not (ROOT / source).is_file()] == []


def test_the_config_for_compose_fits_compose() -> None:
    compose = yaml.safe_load(read("compose.yaml"))
    settings = parsed("examples/compose-app/isr-proxy.yaml", {"ISR_ADMIN_TOKEN": TOKEN})
    assert settings.origin.urls == (f"http://app:{compose['services']['app']['environment']['PORT']}",)
    assert settings.store.path == the("VOLUME")
    assert settings.admin.token == TOKEN


async def test_the_example_app_answers(unused_tcp_port: int) -> None:
    environ = os.environ | {"PORT": str(unused_tcp_port), "RENDER_SECONDS": "0"}
    app = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "examples/compose-app/app.py", env=environ
    )
    try:
        assert b"<h1>/products/1</h1>" in await answer_of(unused_tcp_port, "/products/1")
        assert (await answer_of(unused_tcp_port, "/healthz")).endswith(b"\r\n\r\nok")
    finally:
        app.terminate()
        await app.wait()


async def answer_of(port: int, path: str) -> bytes:
    """Return a whole answer, as soon as somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


# systemd.


@pytest.fixture(scope="module")
def service() -> Mapping[str, str]:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    unit.read_string(read("examples/isr-proxy.service"))
    return unit["Service"]


def test_the_unit_reloads_and_drains_by_signal(service: Mapping[str, str]) -> None:
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"].removesuffix("s")) >= 30
    assert int(service["LimitNOFILE"]) >= 65536


def test_the_unit_can_write_to_its_store_only(service: Mapping[str, str]) -> None:
    assert service["ProtectSystem"] == "strict"
    assert service["DynamicUser"] == service["PrivateTmp"] == service["NoNewPrivileges"] == "yes"
    assert f"/var/lib/{service['StateDirectory']}" == the("VOLUME")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "isr-proxy.service"
    unit.write_text(
        read("examples/isr-proxy.service").replace("/opt/isr-proxy/bin/isr-proxy", sys.executable)
    )
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


# Pins, Makefile, CI.


def pins() -> dict[str, str]:
    """Return the version that constraints.txt gives each package, names in their normal form."""
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    pairs = (line.split("==") for line in lines)
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_that_is_installed_is_pinned() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    wanted = project["project"]["dependencies"] + [
        *project["dependency-groups"]["dev"],
        *project["dependency-groups"]["fuzz"],
    ]
    names = {
        normal(re.split(r"[\s\[<>=!~;]", line)[0]) for line in wanted + project["build-system"]["requires"]
    }
    assert names - pins().keys() == set()


def test_the_tests_run_on_what_is_pinned() -> None:
    installed = {normal(found.name): found.version for found in importlib.metadata.distributions()}
    other = {name: version for name, version in installed.items() if pins().get(name, version) != version}
    assert other == {}


def test_make_alone_shows_every_command() -> None:
    shown = run("make", cwd=ROOT, env=plain_environ()).stdout
    words = [line.split()[1] for line in shown.splitlines() if line.startswith("make ")]
    assert {"setup", "run", "test", "check", "bench", "fmt", "clean"} <= set(words)


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ((), "exec .venv/bin/isr-proxy demo"),
        (("ORIGIN=http://localhost:3000",), "exec .venv/bin/isr-proxy demo --origin 'http://localhost:3000'"),
    ],
)
def test_make_run_starts_the_demo(argument: tuple[str, ...], command: str) -> None:
    done = run("make", "--dry-run", "run", *argument, cwd=ROOT, env=plain_environ())
    assert done.stdout.splitlines()[-1].strip() == command


def plain_environ() -> dict[str, str]:
    """Return the environment without what a make above this test would hand down."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }


def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    done = run("make", "setup", "PYTHON=false", cwd=tmp_path, env=plain_environ())
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def ci(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return what runs the CI script over a Makefile of ours."""

    def run_ci(makefile: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
        (tmp_path / "Makefile").write_text(makefile)
        return run(tmp_path / ".ci" / "run", env=plain_environ())

    return run_ci


def test_ci_checks_fuzzes_then_tests(ci: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = ci("check:\n\t@echo checked\nfuzz:\n\t@echo fuzzed\ntest:\n\t@echo 3 passed in 0.1s\n")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3 passed in 0.1s")
    assert "checked" in done.stdout
    assert "fuzzed" in done.stdout


@pytest.mark.parametrize("failing", ["check", "fuzz", "test"])
def test_ci_fails_when_a_step_fails(
    ci: Callable[[str], subprocess.CompletedProcess[str]], failing: str
) -> None:
    steps = {step: "false" if step == failing else "true" for step in ("check", "fuzz", "test")}
    assert ci("".join(f"{step}:\n\t{command}\n" for step, command in steps.items())).returncode == 1


@pytest.mark.slow
def test_ci_leaves_no_process_behind_and_says_so(
    ci: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    done = ci("check fuzz:\n\ttrue\ntest:\n\t@setsid sleep 300 >/dev/null 2>&1 & exit 0\n")
    [pid] = re.findall(r"^  (\d+) sleep 300", done.stderr, re.MULTILINE)
    assert done.returncode == 1
    assert not Path(f"/proc/{pid}").exists()
