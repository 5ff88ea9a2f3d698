"""The apps run for a whole session, a proxy for one file of tests: each test has pages of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.e2e.apps import DjangoSite, NextApp
from tests.e2e.processes import free_port

_slugs = count(1)


@pytest.fixture
def slug() -> str:
    """A name for an article that no other test uses."""
    return f"article-{next(_slugs)}"


@pytest.fixture(scope="session")
def next_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NextApp]:
    app = NextApp.start(tmp_path_factory.mktemp("next"), admin_port=free_port())
    yield app
    app.stop()


@pytest.fixture(scope="session")
def django_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoSite]:
    site = DjangoSite.start(tmp_path_factory.mktemp("django"))
    yield site
    site.process.stop()
