"""Two companies, one of them with a softphone in the pages of an outside system."""

import pytest

from tests.web.conftest import db, dsn, postgres, world
from tests.web.frames.here import Here
from tests.web.world import World

__all__ = ["db", "dsn", "postgres", "world"]


@pytest.fixture
def here(world: World) -> Here:
    """The addresses over the companies."""
    return Here(world)
