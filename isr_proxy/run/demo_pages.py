"""The demo origin's pages: what each says, and the frame around it.

Knows HTML. Must not know aiohttp, the switches, or when a page is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

LINKS: Final = (
    ("/", "Home"),
    ("/blog/hello", "A post"),
    ("/blog/last-good-wins", "Another post"),
    ("/news", "News"),
    ("/account", "Account"),
    ("/missing", "A missing page"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where visitors and the operator reach the proxy; for the commands that the pages show."""

    page_url: str = "http://localhost:8080"  # without the slash at the end, both
    admin_url: str = "http://localhost:8081"


DEFAULT_ADDRESSES: Final = Addresses()


@dataclass(frozen=True, slots=True)
class Made:
    """One generation of a page: when, the how manieth of this path, and of all paths."""

    path: str
    at: float
    generation: int
    total: int
    addresses: Addresses = DEFAULT_ADDRESSES


def home(made: Made) -> str:
    """Return the front page: what to look at first."""
    return frame(
        made,
        "The page stays, the origin works behind",
        """<h2>Try this, in one minute</h2>
<ol>
<li><b>Watch.</b> This page is fresh for 5 seconds: <b>HIT</b>. The first request after that still gets the
old page at once, <b>STALE</b>, while the origin makes a new one behind. Then it is a HIT again.</li>
<li><b>Slow the origin by 5 s.</b> New pages take longer to appear; every answer still takes
milliseconds.</li>
<li><b>Break it</b>, any way you like. The last good page goes on being served, and comes back to life by
itself once you press <b>Heal</b>. Open a <a href="/blog/never-seen-before">post nobody has asked for</a> to
see what an app without a stored page does.</li>
</ol>
<p>Stop the demo with Ctrl-C and start it again: a restart forgets nothing.</p>""",
    )


def post(made: Made, slug: str) -> str:
    """Return a blog post; any slug has one."""
    title = slug.replace("-", " ").capitalize()
    return frame(
        made,
        title,
        f"""<h2>A page of the route <code>/blog/{{slug}}</code></h2>
<p>Fresh for 10 seconds. It carries the tags <code>blog</code> and <code>post:{escape(slug)}</code>, so that
a CMS can purge this post, or all of them, without knowing their addresses.</p>
<p>Every other word after <code>/blog/</code> is a post too: the first visitor of one waits for the origin,
and nobody after him does.</p>""",
    )


def news(made: Made) -> str:
    """Return the page that is fresh until it is purged."""
    return frame(
        made,
        "News, until somebody says otherwise",
        f"""<h2><code>revalidate: never</code></h2>
<p>This page is made once, and stays until it is purged:</p>
<pre><code>curl -X POST {escape(made.addresses.admin_url)}/v1/purge \\
  -H 'Content-Type: application/json' -d '{{"tags": ["news"]}}'</code></pre>
<p>The next answer is a <b>MISS</b>: no visitor gets the old page once the purge has returned.</p>""",
    )


def account(made: Made) -> str:
    """Return the account page of somebody who is not logged in: the same for all of them."""
    return frame(
        made,
        "Nobody is logged in",
        """<h2>One page for everybody without a login</h2>
<p>It is stored for a minute. Log in, and the cookie <code>demo_user</code> makes your requests <b>PASS</b>:
they reach the origin with your cookie, and what it answers is never stored.</p>
<p><a href="/_demo/login?name=Ada">Log in as Ada</a> or <a href="/_demo/login?name=Grace">as
Grace</a></p>""",
    )


def account_of(made: Made, user: str) -> str:
    """Return the account page of one visitor."""
    return frame(
        made,
        f"Hello, {user}",
        """<h2>This page is yours alone</h2>
<p>Each answer is a <b>PASS</b>, made for you by the origin. Open this address in a private window: there it
is the page without a login.</p>
<p><a href="/_demo/logout">Log out</a></p>""",
    )


def missing(made: Made) -> str:
    """Return what is there where nothing is."""
    return frame(
        made,
        "There is no such page",
        """<h2>404 is an answer, not a failure</h2>
<p>It is stored like a page, for 5 seconds here: a flood of requests for what is not there does not reach
the origin, and a page that is published appears soon.</p>
<p>An error of the origin is something else: it never replaces a page that was good.</p>""",
    )


def frame(made: Made, title: str, body: str) -> str:
    """Return the whole document; `body` is HTML, everything else is text."""
    moment = datetime.fromtimestamp(made.at, UTC)
    return template().substitute(
        title=escape(title),
        body=body,
        links="".join(link(path, label, made.path) for path, label in LINKS),
        page_url=escape(made.addresses.page_url),
        path=escape(made.path),
        made_at=f"{made.at:.3f}",
        made_iso=moment.isoformat(timespec="seconds"),
        made_clock=moment.strftime("%H:%M:%S"),
        generation=made.generation,
        total=made.total,
    )


def link(path: str, label: str, here: str) -> str:
    """Return one item of the navigation."""
    current = ' aria-current="page"' if path == here else ""
    return f'<li><a href="{path}"{current}>{escape(label)}</a></li>'


@cache
def template() -> Template:
    """Return the frame, read once."""
    return Template(files("isr_proxy.run").joinpath("demo_page.html").read_text("utf-8"))
