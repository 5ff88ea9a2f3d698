"""YAML itself: syntax errors, anchors, bombs, positions, variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from isr_proxy.core.settings import TcpAddress
from isr_proxy.errors import ConfigError
from isr_proxy.run import config
from tests.config.reading import parsed, problem, problems, route

SYNTAX = {
    "": "1:1: the file is empty",
    "# only a comment\n": "1:1: the file is empty",
    "---\n": "1:1: the file is empty",
    "- a": "1:1: the file is not a mapping",
    "listen: [": "1:10: not YAML: while parsing a flow node",
    "log:\n\tlevel: info": "2:1: a tab where YAML allows only spaces",
    "log: a: b": "1:7: not YAML: a `:` where no key can be",
    "log: 'x": "1:8: not YAML: while scanning a quoted scalar",
    "log: *x": "1:6: not YAML: this alias names no anchor",
    "log: \x01": "1:6: a character that YAML does not allow",
    'log: "\\UFFFFFFFF"': "1:9: not YAML: a number that is out of range",
    'log: {level: "\\0"}': "1:14: log.level: has a control character",
    'log: {level: "\\ud800"}': "1:14: log.level: has a control character",
    "log: {}\n---\nlog: {}": "2:1: a second document starts here",
    "log: {level: !!python/name:os.system x}": "1:14: log.level: has a YAML tag",
    "? [a]\n: b": "1:3: a key is one word",
    "log: &a {level: *a}": "1:6: an alias that stands inside of what it names",
    "[" * 5000: "1:1050: nested more than 24 levels deep",
    "log: {level: ${LEVEL}}": "1:15: not YAML: between {} or [], a variable needs quotes",
    "log: {<<: 3}": "1:11: log.<<: `<<` takes a mapping",
}


@pytest.mark.parametrize("text", SYNTAX, ids=lambda text: repr(text[:20]))
def test_what_cannot_be_read_is_one_problem_with_its_place(text: str) -> None:
    found = problem(text)
    assert found.startswith(SYNTAX[text]), found


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)
LADDER = "a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "words"),
    [(BOMB, "more than 50000 values"), (MERGE_BOMB, "more than 50000 values"), (LADDER, "24 levels deep")],
    ids=["lists", "merges", "depth"],
)
def test_aliases_cannot_explode(text: str, words: str) -> None:
    assert words in problem(text)


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    settings = parsed("""\
    routes:
      - &page {match: /a, revalidate: 60s, compress: no}
      - {<<: *page, match: /b}
      - {<<: [{revalidate: 5s}, *page], match: /c}
    """)
    assert [r.match for r in settings.routes] == ["/a", "/b", "/c"]
    assert [r.revalidate.ttl for r in settings.routes] == [60, 60, 5]
    assert not any(r.compress for r in settings.routes)


def test_a_key_that_overrides_a_merged_one_is_no_duplicate_but_a_second_is() -> None:
    text = "origin: {timeout: 1s}\nlog: {level: info, level: info}\nlog: {}"
    assert [found.split(";")[0] for found in problems(text)] == [
        "2:20: log.level: duplicate key",
        "3:1: log: duplicate key",
    ]


def test_text_stays_what_was_written() -> None:
    assert route("routes: [{match: /, tags: [007, no, 2024-01-01, 0x10, 1e3, null-ish]}]").tags == (
        "007",
        "no",
        "2024-01-01",
        "0x10",
        "1e3",
        "null-ish",
    )


def test_a_block_with_nothing_below_it_is_empty() -> None:
    assert parsed("origin:\nstore:\nhosts:\ndefaults:\nroutes:\nlog:") == parsed("log: {}")


# --- variables ---


def test_variables_are_typed_again() -> None:
    settings = parsed(
        "listen: :${PORT:-8080}\nworkers: ${N}\nstore:\n  fsync: ${F}\n  max_variants: ${V}",
        N="1",
        F="no",
        V="7",
    )
    assert settings.listen == (TcpAddress("0.0.0.0", 8080),)
    assert (settings.store.fsync, settings.store.max_variants) == (False, 7)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${TAG}", {"TAG": "a"}, "a"),
        ("${TAG:-b}", {}, "b"),
        ("${TAG:-b}", {"TAG": ""}, "b"),
        ("x-${TAG:-}-y", {}, "x--y"),
        ("$${TAG}".replace("TAG", "slug"), {}, "${slug}"),
        ("'$TAG'", {"TAG": "a"}, "$TAG"),
        ("${TAG}", {"TAG": "${OTHER}"}, "${OTHER}"),
        ("${TAG}", {"TAG": "[a]"}, "[a]"),
    ],
)
def test_a_variable_becomes_text_and_never_structure(
    text: str, environ: dict[str, str], expected: str
) -> None:
    settings = parsed(
        f"routes: [{{match: '/{{slug}}/{{OTHER}}', tags: [\"{text.strip(chr(39))}\"]}}]", **environ
    )
    assert settings.routes[0].tags == (expected,)


def test_an_unset_variable_is_named_at_its_own_column() -> None:
    found = problem('store:\n  path: "/data/${NOWHERE}/x"')
    assert found.startswith("2:16: store.path: the environment variable NOWHERE is not set")


@pytest.mark.parametrize("text", ["${", "${}", "${1X}", "${A:-${A:-}}", "${A-b}"])
def test_a_malformed_variable_says_how_to_write_one(text: str) -> None:
    assert "allowed: ${NAME}, ${NAME:-default}, or $${" in problem(f"store: {{path: 'x{text}'}}")


def test_an_empty_variable_is_null_where_nothing_is_allowed() -> None:
    assert parsed("origin:\n  host: ${H:-}").origin.host is None
    assert parsed('admin: {token: "${T:-}"}').admin.token is None


# --- files ---


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"log: {}\nhosts: [\xff]", ":2:9: not UTF-8 text"),
        (b"", ":1:1: the file is empty"),
        (b"#" * (1024 * 1024 + 1), ":1:1: the file is larger than 1048576 bytes"),
    ],
    ids=["latin-1", "empty", "large"],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, raw: bytes, expected: str) -> None:
    file = tmp_path / "isr.yaml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert str(caught.value).startswith(f"{file}{expected}")


@pytest.mark.parametrize(("name", "why"), [("missing.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_is_none_is_one_problem(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        config.load(tmp_path / name, {})
    assert len(caught.value.problems) == 1


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "isr.yaml"
    file.write_bytes(b"\xef\xbb\xbflog: {level: debug}")
    assert config.load(file, {}).log.level == "debug"
