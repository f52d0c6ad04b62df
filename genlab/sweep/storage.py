"""The storage of a sweep's queue, by its address: a database, or a journal on a file system that machines share."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from genlab.runs.errors import UsageError
from genlab.sweep.database import Database
from genlab.sweep.journal import Journal
from genlab.sweep.storage_base import Storage, hide_password

FORMS = "sqlite:///FILE, journal:///FILE or postgresql://HOST:PORT/NAME"


def open_storage(url: str | URL, sweep: str, grace: int) -> Storage:
    """Opens the storage of a queue.

    Args:
        url: sqlite:///FILE, journal:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE.
        sweep: Name of the sweep.
        grace: Seconds without a sign of life after which the process of a run counts as dead.

    Raises:
        UsageError: The address is malformed or cannot be reached.
    """
    address = _address(url)
    return (Journal if address.get_backend_name() == "journal" else Database)(address, sweep, grace)


def _address(url: str | URL) -> URL:
    """Parses an address.

    Raises:
        UsageError: It is malformed, or of another kind of storage.
    """
    given = f"--storage {hide_password(url)}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        what = "is not an address" if isinstance(error, ArgumentError) else "has a port that is not a number"
        raise UsageError(f"{given} {what}; write {FORMS}") from None
    if "@" in (parsed.host or ""):
        raise UsageError(f"{given} has several @; write an @ of the password as %40")
    backend = parsed.get_backend_name()
    if backend in ("sqlite", "journal") and parsed.database not in (None, "", ":memory:"):
        if parsed.query:
            raise UsageError(f"{given} has options after the ?, which a file does not take")
        if parsed.host:
            raise UsageError(f"{given} names a host; write three slashes before a file: {backend}:///FILE")
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise UsageError(f"{given} is not of the form {FORMS}")
