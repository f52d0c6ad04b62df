"""A temporary PostgreSQL cluster, if PostgreSQL is installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import HANG_SECONDS


def programs() -> Path | None:
    """Returns the folder of initdb and pg_ctl; None if they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(on_path).parent if on_path and shutil.which("initdb") else None


@dataclass
class Cluster:
    """A running cluster: its URL, and functions that stop and start it."""

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Starts a cluster on loopback. If this user is root, which PostgreSQL refuses, it runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="genlab-postgres-"))
    user = None
    if os.getuid() == 0:
        user = next(name for name in ("postgres", "nobody") if _exists(name))
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *args: str) -> None:
        command = [str(programs() / program), *args]  # type: ignore[operator]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        subprocess.run(command, user=user, cwd=folder, check=True, timeout=HANG_SECONDS, **quiet)  # type: ignore[call-overload]

    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"

    def start() -> None:
        run("pg_ctl", "-D", data, "-o", options, "-w", "-l", str(folder / "log"), "start")

    def stop() -> None:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")

    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "genlab", "-N", "-E", "UTF8", "--no-locale")
        start()
        try:
            yield Cluster(f"postgresql://genlab@127.0.0.1:{port}/postgres", stop, start)
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
