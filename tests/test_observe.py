"""Metrics, access log and structured logs: what is counted, what is written, what never is."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from isr_proxy.core.http import Fields, Request
from isr_proxy.core.key import Key
from isr_proxy.core.purges import Strength
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import LogFormat, LogSettings
from isr_proxy.run import logs
from isr_proxy.serve import access_log
from isr_proxy.serve.families import Durations
from isr_proxy.serve.observe import Observation, Readings
from isr_proxy.serve.outcome import Outcome, Purged, Regenerated
from isr_proxy.serve.plain_text import bounded, printable

NOW = 1_700_000_000.25
QUIET = LogSettings(access=False)
BLOG = "/blog/{slug}"


def request(path: str = "/blog/hello", query: str | None = None, **fields: str) -> Request:
    lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
    return Request("GET", "http", "example.org", path, query, Fields(lines), False, "10.0.0.9", "10.0.0.9")


def outcome(
    x_cache: XCache = XCache.HIT,
    reason: Reason = Reason.FRESH,
    status: int = 200,
    seconds: float = 0.002,
    asked: Request | None = None,
    route: str | None = BLOG,
) -> Outcome:
    return Outcome(asked or request(), route, status, x_cache, reason, 100, seconds)


def regenerated(reason: Reason, *, is_unchanged: bool = False) -> Regenerated:
    return Regenerated(Key("http", "example.org", "/blog/hello"), BLOG, reason, 0.2, is_unchanged)


def sample(observation: Observation, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(observation.render().decode()):
        for one in family.samples:
            if one.name == f"isr_proxy_{name}" and one.labels == labels:
                return one.value
    return None


class Log:
    """An Observation whose access log goes to a file."""

    def __init__(self, path: Path, form: LogFormat = LogFormat.JSON) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.observation = Observation(LogSettings(format=form), fd=self._fd, now=lambda: NOW)

    def lines(self) -> list[str]:
        self.observation.close()
        return self.path.read_text().splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "access.log")


# --- metrics ---


def test_requests_are_counted_by_route_result_and_status_class() -> None:
    observation = Observation(QUIET)
    for status in (200, 204, 404):
        observation.visited(outcome(status=status))
    assert sample(observation, "requests_total", route=BLOG, result="HIT", status="2xx") == 2
    assert sample(observation, "requests_total", route=BLOG, result="HIT", status="4xx") == 1
    assert sample(observation, "response_bytes_total", route=BLOG, result="HIT") == 300


def test_law_10_the_reason_is_a_label_in_its_own_word() -> None:
    observation = Observation(QUIET)
    observation.visited(outcome(XCache.PASS, Reason.BYPASS_COOKIE))
    assert sample(observation, "answers_total", result="PASS", reason="bypass-cookie") == 1


def test_law_8_paths_do_not_become_labels() -> None:
    observation = Observation(QUIET)
    observation.visited(outcome())
    size = len(observation.render())
    for number in range(200):
        observation.visited(outcome(asked=request(f"/blog/{number}")))
    assert len(observation.render()) < size + 100


def test_requests_without_a_route_share_one_label() -> None:
    observation = Observation(QUIET)
    observation.visited(outcome(XCache.PASS, Reason.NO_ROUTE, route=None))
    assert sample(observation, "requests_total", route="-", result="PASS", status="2xx") == 1


def test_latency_buckets_are_cumulated_over_routes() -> None:
    observation = Observation(QUIET)
    observation.visited(outcome(seconds=0.002))
    observation.visited(outcome(seconds=0.002, route="/other"))
    observation.visited(outcome(seconds=99))
    name = "request_duration_seconds_bucket"
    assert sample(observation, name, result="HIT", le="0.001") == 0
    assert sample(observation, name, result="HIT", le="0.0025") == 2
    assert sample(observation, name, result="HIT", le="+Inf") == 3
    assert sample(observation, "request_duration_seconds_sum", result="HIT") == pytest.approx(99.004)


def test_a_duration_on_a_bound_counts_below_it() -> None:
    durations = Durations((0.1, 1.0))
    durations.add(0.1)
    assert durations.buckets() == [("0.1", 1.0), ("1.0", 1.0), ("+Inf", 1.0)]


def test_regenerations_are_counted_by_outcome() -> None:
    observation = Observation(QUIET)
    observation.regenerated(regenerated(Reason.STORED, is_unchanged=True))
    observation.regenerated(regenerated(Reason.SERVER_ERROR))
    assert sample(observation, "regenerations_total", route=BLOG, outcome="stored") == 1
    assert sample(observation, "regenerations_total", route=BLOG, outcome="server-error") == 1
    assert sample(observation, "regenerations_unchanged_total", route=BLOG) == 1
    assert sample(observation, "regeneration_duration_seconds_count") == 2


def test_origin_errors_and_purges_are_counted() -> None:
    observation = Observation(QUIET)
    observation.origin_failed(Reason.REFUSED)
    observation.purged(Purged(1, 0, Strength.SOFT))
    assert sample(observation, "origin_errors_total", reason="refused") == 1
    assert sample(observation, "purges_total", strength="soft") == 1
    assert sample(observation, "purges_total", strength="hard") == 0


def test_what_others_count_is_read_at_every_scrape() -> None:
    observation = Observation(QUIET)
    readings = [Readings(3, 4096, 2, 1, 5), Readings(store_bytes=8192)]
    observation.watch(lambda: readings.pop(0))
    text = observation.render().decode()
    assert "isr_proxy_store_bytes 4096.0" in text
    assert "isr_proxy_store_bad_entries_total 1.0" in text
    assert sample(observation, "store_bytes") == 8192


def test_two_observations_do_not_share_counts() -> None:
    first, second = Observation(QUIET), Observation(QUIET)
    first.visited(outcome())
    assert second.snapshot().requests["HIT"] == 0


def test_the_snapshot_has_the_share_of_answers_from_the_store() -> None:
    observation = Observation(QUIET)
    for x_cache in (XCache.HIT, XCache.HIT, XCache.STALE, XCache.MISS, XCache.PASS, XCache.ERROR):
        observation.visited(outcome(x_cache))
    snapshot = observation.snapshot()
    assert snapshot.hit_ratio == 0.75
    assert snapshot.requests == {"HIT": 2, "STALE": 1, "MISS": 1, "PASS": 1, "FALLBACK": 0, "ERROR": 1}
    assert snapshot.sent_bytes == 600


def test_nothing_looked_up_has_no_hit_ratio() -> None:
    observation = Observation(QUIET)
    observation.visited(outcome(XCache.PASS, Reason.METHOD))
    assert observation.snapshot().hit_ratio is None


# --- access log ---


def test_law_10_one_line_a_request_says_all_of_it(log: Log) -> None:
    log.observation.visited(outcome(asked=request(query="page=2", User_Agent="curl/8")))
    assert [json.loads(line) for line in log.lines()] == [
        {
            "timestamp": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "event": "request",
            "method": "GET",
            "host": "example.org",
            "path": "/blog/hello?page=2",
            "route": BLOG,
            "status": 200,
            "x_cache": "HIT",
            "reason": "fresh",
            "bytes": 100,
            "ms": 2.0,
            "client": "10.0.0.9",
            "user_agent": "curl/8",
        }
    ]


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_secrets_are_not_logged(tmp_path: Path, form: LogFormat) -> None:
    log = Log(tmp_path / "log", form)
    log.observation.visited(outcome(asked=request(Cookie="id=s3cret", Authorization="Bearer s3cret")))
    assert "s3cret" not in "".join(log.lines())


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_request_cannot_forge_a_line(tmp_path: Path, form: LogFormat) -> None:
    log = Log(tmp_path / "log", form)
    log.observation.visited(outcome(asked=request("/a\n\x1b[2J\r", User_Agent="x\ny")))
    assert len(log.lines()) == 1
    assert "\x1b" not in log.path.read_text()


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_target_that_is_not_utf_8_is_logged(tmp_path: Path, form: LogFormat) -> None:
    log = Log(tmp_path / "log", form)
    log.observation.visited(outcome(asked=request("/caf\udce9")))
    assert "udce9" in log.lines()[0]


def test_law_8_long_texts_are_cut(log: Log) -> None:
    log.observation.visited(outcome(asked=request("/" + "a" * 9000, User_Agent="b" * 9000)))
    line = json.loads(log.lines()[0])
    assert len(line["path"]) == access_log.MAX_TARGET
    assert len(line["user_agent"]) == access_log.MAX_FIELD


def test_law_8_a_log_nobody_reads_drops_lines_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING_BYTES", 4096)
    reading, writing = os.pipe()
    observation = Observation(LogSettings(format=LogFormat.JSON), fd=writing)
    for _ in range(3000):
        observation.visited(outcome())
    assert (sample(observation, "log_lines_dropped_total") or 0) > 2000
    os.close(reading)
    observation.close()
    os.close(writing)


def test_a_reader_that_went_away_is_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    observation = Observation(LogSettings(format=LogFormat.JSON), fd=writing)
    observation.visited(outcome())
    observation.close()
    assert sample(observation, "log_lines_dropped_total") == 1
    os.close(writing)


def test_access_false_writes_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.observation.reconfigure(QUIET)
    log.observation.visited(outcome())
    assert log.lines() == []
    assert log.observation.snapshot().requests["HIT"] == 1


def test_auto_is_for_people_on_a_terminal() -> None:
    main, terminal = pty.openpty()
    observation = Observation(LogSettings(), fd=terminal, now=lambda: NOW)
    observation.visited(outcome())
    observation.close()
    shown = os.read(main, 4096).decode()
    assert "\x1b[32mHIT" in shown
    assert "GET example.org/blog/hello" in shown
    os.close(main)
    os.close(terminal)


# --- structured logs ---


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = True
    structlog.reset_defaults()


def configured(form: LogFormat, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(LogSettings(level=level, format=form), stream)
    return stream


@pytest.mark.usefixtures("untouched_logging")
def test_an_event_is_one_json_object() -> None:
    stream = configured(LogFormat.JSON)
    structlog.get_logger("isr_proxy.engine").warning("page not stored", url="http://a/b", tries=2)
    event = json.loads(stream.getvalue())
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "page not stored",
        "level": "warning",
        "logger": "isr_proxy.engine",
        "url": "http://a/b",
        "tries": 2,
    }


@pytest.mark.usefixtures("untouched_logging")
def test_the_standard_library_logs_the_same_way() -> None:
    stream = configured(LogFormat.JSON)
    logging.getLogger("asyncio").error("task %s failed", "x")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["logger"], event["level"]) == ("task x failed", "asyncio", "error")


@pytest.mark.usefixtures("untouched_logging")
def test_the_level_holds_for_all() -> None:
    stream = configured(LogFormat.JSON, "warning")
    structlog.get_logger("isr_proxy").info("quiet")
    logging.getLogger("other").info("quiet")
    structlog.get_logger("isr_proxy").error("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


@pytest.mark.usefixtures("untouched_logging")
def test_configured_again_there_is_one_handler_of_the_new_level() -> None:
    configured(LogFormat.JSON, "error")
    stream = configured(LogFormat.JSON, "debug")
    structlog.get_logger("isr_proxy").debug("seen")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.usefixtures("untouched_logging")
def test_console_values_cannot_forge_a_line() -> None:
    stream = configured(LogFormat.CONSOLE)
    structlog.get_logger("isr_proxy").warning("odd\nname", url="/a\n2026 [error] fake\x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.usefixtures("untouched_logging")
def test_a_traceback_is_indented_on_the_console() -> None:
    stream = configured(LogFormat.CONSOLE)
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        structlog.get_logger("isr_proxy").exception("crashed")
    lines = stream.getvalue().splitlines()
    assert any("crashed" in line for line in lines)
    assert "    second" in lines


@pytest.mark.usefixtures("untouched_logging")
def test_json_takes_any_value_and_any_text() -> None:
    stream = configured(LogFormat.JSON)
    structlog.get_logger("isr_proxy").info("odd", path=Path("/a"), target="/caf\udce9", error=ValueError("v"))
    event = json.loads(stream.getvalue())
    assert (event["path"], event["error"]) == ("/a", "v")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("café", "café"),
        ("a\nb", "a\\x0ab"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u202ex", "\\u202ex"),
    ],
)
def test_printable_keeps_letters_and_escapes_controls(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_bounded_is_never_longer_than_its_limit() -> None:
    assert bounded("abcdef", 6) == "abcdef"
    assert bounded("abcdefg", 6) == "abcde…"
