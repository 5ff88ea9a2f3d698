"""Django: tell isr-proxy when an article was saved or deleted.

Knows which pages show an article, and how the admin API is called. Must not know templates or views.

Copy it into your app as `purging.py`, import it in the app's `AppConfig.ready()`, and name your own model
and pages below. Environment: ISR_ADMIN_URL (http://127.0.0.1:8081) and ISR_ADMIN_TOKEN.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

MODEL = "blog.Article"
TIMEOUT = 5.0  # seconds

_log = logging.getLogger(__name__)
_opener = build_opener(ProxyHandler({}))  # never through the proxy that http_proxy names


def purge(**selectors: Any) -> None:
    """Purge `paths`, `prefixes` or `tags`; a proxy that is away is logged and never fails a save."""
    request = Request(
        f"{os.environ['ISR_ADMIN_URL']}/v1/purge",
        data=json.dumps(selectors).encode(),
        headers={
            "Authorization": f"Bearer {os.environ.get('ISR_ADMIN_TOKEN', '')}",
            "Content-Type": "application/json",
        },
    )
    try:
        with _opener.open(request, timeout=TIMEOUT) as answer:
            _log.info("purged %s: %s", selectors, answer.read().decode())
    except OSError as error:  # refused, timed out, or an HTTP error
        _log.error("not purged %s: %s", selectors, error)


@receiver(post_save, sender=MODEL)
@receiver(post_delete, sender=MODEL)
def article_changed(instance: Any, **_: Any) -> None:
    """Purge its page and the lists it stands in, once the database says so to everybody."""
    paths = [instance.get_absolute_url(), "/"]
    transaction.on_commit(lambda: purge(paths=paths, tags=["articles"]))
