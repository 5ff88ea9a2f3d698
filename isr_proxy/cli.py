"""The command line: what each command takes, and how it ends.

Knows arguments and exit codes: 0 done, 1 refused or failed, 2 usage or an unusable config, 3 nobody at the
admin address. Must not know how anything is done; what is heavy is imported by the command that needs it,
so that `isr-proxy check` is quick enough for an editor or a commit hook.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, assert_never

import typer

from isr_proxy import __version__
from isr_proxy.errors import ConfigError
from isr_proxy.serve.plain_text import printable

if TYPE_CHECKING:
    from isr_proxy.core.settings import Settings
    from isr_proxy.run.admin_client import AdminClient, Reply
    from isr_proxy.run.tables import Screen

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3

app = typer.Typer(
    name="isr-proxy",
    help="Incremental Static Regeneration in front of any origin.",
    no_args_is_help=True,
    # Local variables in a traceback would show the admin token.
    pretty_exceptions_enable=False,
)

_LOCAL: Final = "This machine"
_ADMIN: Final = "A running proxy, over its admin API"

ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="The config file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Admin = Annotated[str, typer.Option(envvar="ISR_ADMIN_URL", metavar="URL", help="The admin address.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="ISR_ADMIN_TOKEN", metavar="TOKEN", help="The admin token; ISR_ADMIN_TOKEN hides it better."
    ),
]
Paths = Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Paths, or URLs; `?query` narrows.")]
Prefixes = Annotated[list[str] | None, typer.Option("--prefix", metavar="P", help="Paths that begin so.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="T", help="Pages with this tag.")]
Hosts = Annotated[list[str] | None, typer.Option("--host", metavar="H", help="Pages of this host.")]
Everything = Annotated[bool, typer.Option("--all", help="Every page.")]

DEFAULT_ADMIN: Final = "http://127.0.0.1:8081"  # the config's own default
ASK_SECONDS: Final = 30.0
ENTRY_COLUMNS: Final = ("url", "state", "status", "age", "ttl", "size_bytes", "tags", "last_error")


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="isr-proxy")


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        print(f"isr-proxy {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # its callback has printed it


# --- this machine ---


@app.command(rich_help_panel=_LOCAL)
def serve(
    *,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The config file.")] = None,
    origin: Annotated[str | None, typer.Option(metavar="URL", help="Your app, with no config file.")] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="host:port or unix:/path.")
    ] = None,
    store: Annotated[str | None, typer.Option(metavar="PATH", help="Where pages are stored.")] = None,
    admin_listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the admin API listens.")
    ] = None,
) -> None:
    """Serve: from a config file, or any app by its URL."""
    from isr_proxy.run import logs, overrides, supervisor

    if (config is None) == (origin is None):
        raise typer.BadParameter("give either --config FILE or --origin URL")
    if config is not None and admin_listen is not None:
        raise typer.BadParameter(
            "--admin-listen goes with --origin; a config file says `admin.listen` itself"
        )
    chosen = overrides.Overrides(tuple(listen or ()), store, admin_listen)

    def load() -> Settings:
        settings = overrides.load(config, origin, chosen)
        logs.configure(settings.log)
        return settings

    try:
        raise typer.Exit(supervisor.run(load))
    except ConfigError as error:
        _show_problems(error)


@app.command(rich_help_panel=_LOCAL)
def check(file: ConfigFile) -> None:
    """Validate a config file; every error, as file:line:column."""
    count = len(_load(file).routes)
    typer.secho(f"OK: {count} {'route' if count == 1 else 'routes'}", fg="green")


@app.command(rich_help_panel=_LOCAL)
def routes(
    file: ConfigFile,
    urls: Annotated[list[str] | None, typer.Argument(metavar="URL", help="URLs, or paths.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show the route table; or which route and key each URL gets, and why."""
    from isr_proxy.run.routes_report import route_rows, url_rows

    settings = _load(file)
    rows: list[Any] = [*url_rows(settings, urls)] if urls else [*route_rows(settings)]
    if as_json:
        _print_json([dataclasses.asdict(row) for row in rows])
    elif urls:
        _screen().blocks(rows)
    else:
        _screen().rows(rows)


@app.command(rich_help_panel=_LOCAL)
def schema() -> None:
    """Print the JSON Schema of the config file."""
    from isr_proxy.run.config import json_schema

    _print_json(json_schema())


@app.command(rich_help_panel=_LOCAL)
def demo(
    *,
    origin: Annotated[
        str | None, typer.Option(metavar="URL", help="Your app, instead of the demo's.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT")] = 8080,
    admin_port: Annotated[int, typer.Option(metavar="PORT")] = 8081,
    store: Annotated[str, typer.Option(metavar="PATH")] = "./.isr-cache",
) -> None:
    """Start the proxy in front of a demo site, and say what to try."""
    from isr_proxy.run.demo import DemoOptions

    try:
        _run_demo(DemoOptions(origin, host, port, admin_port, store=store))
    except ConfigError as error:
        _show_problems(error)
    except OSError as error:
        _fail(str(error), REFUSED)


def _run_demo(options: Any) -> None:
    import uvloop

    from isr_proxy.core.settings import LogFormat, LogSettings
    from isr_proxy.run import logs
    from isr_proxy.run.demo import run_demo

    logs.configure(LogSettings(level="warning", format=LogFormat.CONSOLE))
    uvloop.run(run_demo(options))


# --- a running proxy ---


@app.command(rich_help_panel=_ADMIN)
def purge(
    paths: Paths = None,
    *,
    prefix: Prefixes = None,
    tag: Tags = None,
    host: Hosts = None,
    everything: Everything = False,
    soft: Annotated[bool, typer.Option("--soft", help="Mark stale, rather than unusable.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what it would hit.")] = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make pages unusable at once, by path, prefix, tag or host."""
    selected = _selected(paths, prefix, tag, host, everything=everything)
    reply = _client(admin, token).post("/v1/purge", {**selected, "soft": soft, "dry_run": dry_run})
    _end(reply, _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def revalidate(
    paths: Paths = None,
    *,
    prefix: Prefixes = None,
    tag: Tags = None,
    host: Hosts = None,
    everything: Everything = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all are regenerated.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what it would hit.")] = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Mark pages stale, and regenerate them at a bounded rate."""
    from isr_proxy.run.progress import judged

    selected = _selected(paths, prefix, tag, host, everything=everything)
    client = _client(admin, token, timeout=None if wait else ASK_SECONDS)
    if dry_run:  # it hits what a soft purge would
        reply = client.post("/v1/purge", {**selected, "soft": True, "dry_run": True})
    else:
        reply = judged(client.post("/v1/revalidate", {**selected, "wait": wait}))
    _end(reply, _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def prerender(
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Paths to generate.")] = None,
    *,
    sitemap: Annotated[str | None, typer.Option(metavar="S", help="A sitemap at the origin.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until all are generated, with a progress bar.")
    ] = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Generate pages ahead of demand."""
    from isr_proxy.run.progress import follow

    if not paths and sitemap is None:
        raise typer.BadParameter("give paths, or --sitemap")
    client = _client(admin, token)
    reply = client.post("/v1/prerender", {"paths": paths or [], "sitemap": sitemap})
    _end(follow(client, reply) if wait else reply, _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def ls(
    *,
    prefix: Annotated[str | None, typer.Option(metavar="P", help="Paths that begin so.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="T", help="Pages with this tag.")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="fresh, stale, purged, error or unrouted.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 100,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Where the last listing ended.")
    ] = None,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """List stored pages."""
    asked = {"prefix": prefix, "tag": tag, "state": state, "limit": str(limit), "cursor": cursor}
    query = [(name, value) for name, value in asked.items() if value is not None]
    _end(_client(admin, token).get("/v1/entries", query), _show_entries, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def show(
    url: Annotated[str, typer.Argument(metavar="URL", help="A URL, or a path.")],
    *,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show one stored page: key, variants, times, size, tags, last error."""
    _end(_client(admin, token).get("/v1/entry", [("url", url)]), _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def explain(
    url: Annotated[str, typer.Argument(metavar="URL", help="A URL, or a path.")],
    *,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'Name: value'", help="A request header.")
    ] = None,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say what would happen to a request, and why, step by step."""
    query = [("url", url), *(("header", _header(line)) for line in header or ())]
    _end(_client(admin, token).get("/v1/explain", query), _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def status(*, admin: Admin = DEFAULT_ADMIN, token: Token = None, as_json: Json = False) -> None:
    """Show how the proxy is: version, hit ratio, regenerations, origin, store."""
    _end(_client(admin, token).get("/v1/status"), _show_facts, as_json=as_json)


@app.command(rich_help_panel=_ADMIN)
def reload(*, admin: Admin = DEFAULT_ADMIN, token: Token = None, as_json: Json = False) -> None:
    """Read the config file again; a bad one changes nothing."""
    _end(_client(admin, token).post("/v1/reload", {}), _show_facts, as_json=as_json)


# --- how a command asks ---


def _client(admin: str, token: str | None, timeout: float | None = ASK_SECONDS) -> AdminClient:
    from isr_proxy.run.admin_client import AdminClient

    try:
        return AdminClient(admin, token, timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _selected(
    paths: list[str] | None,
    prefixes: list[str] | None,
    tags: list[str] | None,
    hosts: list[str] | None,
    *,
    everything: bool,
) -> dict[str, object]:
    lists = {"paths": paths or [], "prefixes": prefixes or [], "tags": tags or [], "hosts": hosts or []}
    if not everything and not any(lists.values()):
        raise typer.BadParameter("name what: PATH..., --prefix, --tag, --host, or --all")
    return {**lists, "all": everything}


def _header(line: str) -> str:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{line!r} is not a header, which is written 'Name: value'")
    return f"{name.strip()}:{value.strip()}"


def _load(file: Path) -> Settings:
    from isr_proxy.run import config

    try:
        return config.load(file)
    except ConfigError as error:
        _show_problems(error)


# --- how a command ends ---


def _end(reply: Reply, present: Callable[[Screen, Any], None], *, as_json: bool) -> None:
    """Show what the server said, and leave with the code that says how it went."""
    from isr_proxy.run.admin_client import Done, Refused, Unreachable

    match reply:
        case Done(data) if as_json:
            _print_json(data)
        case Done(data):
            present(_screen(), data)
        case Refused(_, message, problems, data):
            if as_json and data is not None:
                _print_json(data)
            _fail("\n".join((message, *problems)), REFUSED)
        case Unreachable(detail):
            _fail(detail, UNREACHABLE)
        case _:
            assert_never(reply)


def _show_facts(screen: Screen, data: Any) -> None:
    screen.facts(data if isinstance(data, dict) else {"answer": data})


def _show_entries(screen: Screen, data: Any) -> None:
    screen.rows(data["entries"], ENTRY_COLUMNS)
    if data.get("cursor"):
        screen.line(f"more: --cursor {data['cursor']}", "dim")
    if data.get("complete") is False:
        screen.line("the catalog is being rebuilt: pages may be missing here", "yellow")


def _screen() -> Screen:
    from isr_proxy.run.tables import Screen

    return Screen(sys.stdout)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=not sys.stdout.isatty()))


def _show_problems(error: ConfigError) -> NoReturn:
    """Print every problem, exactly as it reads, one a line; a terminal gets the place in bold."""
    for problem in error.problems:
        place = f"{problem.file}:{problem.line}:{problem.column}:"
        rest = str(problem).removeprefix(place)
        typer.echo(typer.style(printable(place), bold=True) + printable(rest), err=True)
    raise typer.Exit(USAGE)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.split("\n"):
        typer.secho(printable(line), fg="red", err=True)
    raise typer.Exit(code)
