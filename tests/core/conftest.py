"""A world with anna, bob and carl."""

from collections.abc import Iterator

import pytest

from tests.core.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """Three users and their sets."""
    made = World("anna", "bob", "carl")
    yield made
    made.close()
