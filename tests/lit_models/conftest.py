from collections.abc import Iterator

import pytest

from tests.lit_models.adversaries import Step, watched


@pytest.fixture
def steps() -> Iterator[list[Step]]:
    """The steps of optimizers that an adversarial training does."""
    with watched() as seen:
        yield seen
