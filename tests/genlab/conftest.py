from collections.abc import Iterator

import pytest

from tests.postgres import cluster, programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    if programs() is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not installed")
    with cluster() as running:
        yield running.url
