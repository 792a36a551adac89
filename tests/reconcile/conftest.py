"""What all these tests have in common: they ask the same pure functions the same questions again and again."""

from collections.abc import Iterator

import pytest

from tests.reconcile.memory import remembering


@pytest.fixture(autouse=True)
def remembered() -> Iterator[None]:
    """Parse and judge what is equal once (see ``memory``)."""
    with remembering():
        yield
