"""What all comparisons need is made in a fixture: a test's time is its own."""

from __future__ import annotations

import pytest
from support import built, bundles, environments


@pytest.fixture(autouse=True)
def prepared(request: pytest.FixtureRequest) -> None:
    """The wheel, and the environment ``varied`` with its bundle for the test's Python."""
    built.wheel()
    if "each_python" in request.fixturenames:
        python = request.getfixturevalue("each_python")
        bundles.bundle(environments.environment("varied", python))
