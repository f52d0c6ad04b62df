"""seconds.csv: the seconds since the start of a run at each row of metrics.csv.

They are in a file of their own, so that runs with equal numbers have equal files of metrics.
"""

import time
from pathlib import Path

from genlab.runs.folder import write_atomically

SECONDS = "seconds.csv"


class Clock:
    """Writes the seconds since the start of a run, a line for each call. A resumed run counts on.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.perf_counter()
        self._known = True

    def append(self) -> None:
        """Adds a line, unless the time of earlier lines is unknown."""
        if not self._known:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{time.perf_counter() - self._began:.2f}\n")

    def resume(self, count: int) -> None:
        """Keeps the first lines, and counts on from the last of them.

        A run of an earlier version, which has none, gets none.
        """
        seconds = read_seconds(self.path)[:count]
        self._known = bool(seconds) or count == 0
        if not seconds:
            self.path.unlink(missing_ok=True)
            return
        seconds += seconds[-1:] * (count - len(seconds))
        write_atomically(self.path, "".join(f"{number:.2f}\n" for number in seconds))
        self._began = time.perf_counter() - seconds[-1]


def read_seconds(path: Path) -> list[float]:
    """Reads the seconds of a run up to the first damaged line; a run of an earlier version has none."""
    found: list[float] = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            found.append(float(line))
    except (OSError, ValueError):
        pass
    return found
