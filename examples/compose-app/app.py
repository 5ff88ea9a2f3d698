"""A tiny app to stand behind isr-proxy: every page takes a second to make and says when it was made.

Knows nothing of the proxy. Needs only the standard library; PORT says where it listens.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RENDER_SECONDS = float(os.environ.get("RENDER_SECONDS", "1"))

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{path}</title>
<h1>{path}</h1>
<p>Made at <time>{made_at}</time>, in {seconds:g} seconds.</p>
<p><a href="/">Home</a> <a href="/products/1">Product 1</a> <a href="/products/2">Product 2</a></p>
</html>
"""


class App(BaseHTTPRequestHandler):
    """Answers every path with a page, and /healthz at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            return self.answer("ok", "text/plain")
        time.sleep(RENDER_SECONDS)
        made_at = datetime.now(UTC).strftime("%H:%M:%S")  # noqa: TID251  the app shows the wall clock
        page = PAGE.format(path=escape(self.path), made_at=made_at, seconds=RENDER_SECONDS)
        return self.answer(page, "text/html; charset=utf-8")

    def answer(self, text: str, content_type: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "3000"))), App).serve_forever()
