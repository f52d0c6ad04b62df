from collections.abc import Iterator

import pytest

from tests.lit_models.adversaries import Step, recorded_steps


@pytest.fixture
def steps() -> Iterator[list[Step]]:
    """The optimizer steps that adversarial models take in the test."""
    with recorded_steps() as recorded:
        yield recorded
