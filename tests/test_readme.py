"""What the documentation promises is there: configs, commands, calls, metrics, links, names of tests.

Reads the Markdown and the examples as text, and holds them against the program. Runs no command of theirs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
from typer.core import TyperGroup

from isr_proxy.cli import app
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LogSettings
from isr_proxy.run import config
from isr_proxy.serve.admin import CALLS
from isr_proxy.serve.observe import Observation
from tests.pem import Authority

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ENVIRON: Final = {"ISR_ADMIN_TOKEN": "0123456789abcdef0123456789abcdef"}

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_CALL: Final = re.compile(r"\b(GET|POST) (/[\w/{}.]+)")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield every fenced block of a language, with where it stands."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            if found[1] == language:
                yield f"{page.name}:{text.count(chr(10), 0, found.start()) + 2}", found[2]


def commands(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the arguments of every shell line that starts with a command."""
    for place, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["sudo"] else words
            if words[:1] == [name]:
                yield place, words[1:]


def ids(found: tuple[str, Any]) -> str:
    return found[0]


@cache
def command_line() -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    prose = _FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as certbot and the example's hook leave it."""
    folder = tmp_path_factory.mktemp("tls")
    pair = Authority.make(folder).sign("www.example.org")
    pair.certificate.rename(folder / "fullchain.pem")
    pair.key.rename(folder / "privkey.pem")
    return folder


@pytest.mark.parametrize("block", [*blocks("yaml")], ids=ids)
def test_every_config_is_valid(block: tuple[str, str], certificates: Path) -> None:
    place, text = block
    text = text.replace("/etc/isr-proxy/tls", str(certificates))
    assert config.parse(text, file=place, environ=ENVIRON).routes


@pytest.mark.parametrize("command", [*commands("isr-proxy")], ids=ids)
def test_every_command_exists_with_its_options(command: tuple[str, list[str]]) -> None:
    _, (name, *arguments) = command
    known = command_line().commands[name]
    assert known.make_context(name, arguments).args == []


def test_every_command_is_told_of() -> None:
    told = {name for _, (name, *_) in commands("isr-proxy")}
    assert set(command_line().commands) - told == {"demo"}  # `make run` starts it


@pytest.mark.parametrize("words", [*commands("make")], ids=ids)
def test_every_make_target_exists(words: tuple[str, list[str]]) -> None:
    targets = [word for word in words[1] if "=" not in word and word not in ("-C", "isr-proxy")]
    made = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert set(targets) <= set(made)


def bodies() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the path and the JSON of every curl that sends some."""
    for place, words in commands("curl"):
        if "-d" in words:
            address = next(word for word in words if word.startswith("http"))
            yield place, (re.sub(r"https?://[^/]+", "", address), words[words.index("-d") + 1])


@pytest.mark.parametrize("body", [*bodies()], ids=ids)
def test_every_body_that_curl_sends_is_taken(body: tuple[str, tuple[str, str]]) -> None:
    path, sent = body[1]
    call = next(call for call in CALLS if call.path == path and call.method == "POST")
    assert call.body is not None
    assert call.body.model_validate_json(sent)


def test_every_call_of_the_admin_api_is_told_of_and_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    told = set(_CALL.findall(text))
    assert told == {(call.method, call.path) for call in CALLS}


def test_every_metric_is_told_of_and_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rendered = Observation(LogSettings(access=False)).render().decode()
    made = set(re.findall(r"^# TYPE (isr_proxy_\w+)", rendered, re.MULTILINE))
    told = set(re.findall(r"`(isr_proxy_\w+)`", text))
    assert told == made


def test_every_reason_is_told_of() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("### Reasons")[2]
    told = set(re.findall(r"`([a-z-]+)`", text.partition("## Metrics")[0]))
    assert {reason.value for reason in Reason} - told == set()


def keys_of(schema: dict[str, Any]) -> Iterator[str]:
    for part in (schema, *schema["$defs"].values()):
        yield from part.get("properties", {})


def test_every_key_of_the_config_is_told_of() -> None:
    prose = _FENCE.sub("", (ROOT / "docs" / "configuration.md").read_text("utf-8"))
    told = {word for code in re.findall(r"`[^`]+`", prose) for word in re.findall(r"\w+", code)}
    assert set(keys_of(config.json_schema())) - told == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_test_that_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`(test_law_\w+)`", (ROOT / "docs" / "architecture.md").read_text("utf-8")))
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_module_has_its_place_in_the_architecture() -> None:
    told = set(re.findall(r"\w+", (ROOT / "docs" / "architecture.md").read_text("utf-8")))
    rooms = ("core", "store", "coord", "origin", "serve")
    modules = {path.stem for room in rooms for path in (ROOT / "isr_proxy" / room).glob("[a-z]*.py")}
    assert modules - told == set()


def test_the_webhook_example_sends_what_the_proxy_takes(tmp_path: Path) -> None:
    """A stand-in for curl writes down what the script would send."""
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\ncat >/dev/null\nfor last; do :; done\necho "$last"\n')
    curl.chmod(0o755)
    script = ROOT / "examples" / "purge" / "cms-webhook.sh"
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", script, "post:hello", "blog"], env=environ, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"tags": ["post:hello", "blog"]}


def test_the_hook_example_puts_a_renewed_pair_in_place(certificates: Path, tmp_path: Path) -> None:
    script, target = ROOT / "examples" / "tls" / "certbot-deploy-hook.sh", tmp_path / "tls"
    environ = {
        "PATH": "/usr/bin:/bin",
        "RENEWED_LINEAGE": str(certificates),
        "TARGET": str(target),
        "GROUP": str(tmp_path.stat().st_gid),
        "RELOAD": "echo reloaded",
    }
    done = subprocess.run(["sh", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "reloaded\n"
    names = ["fullchain.pem", "privkey.pem"]
    assert sorted(file.name for file in target.iterdir()) == names
    for name in names:
        assert (target / name).read_bytes() == (certificates / name).read_bytes()
        assert (target / name).stat().st_mode & 0o777 == 0o640
