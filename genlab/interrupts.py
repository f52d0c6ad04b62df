"""How the programs end after Ctrl-C: with one line, at any moment from the first import on."""

import signal
import sys
from types import TracebackType


def end_quietly_on_interrupt() -> None:
    """Makes a Ctrl-C that nothing handles end this process with one line and the status of SIGINT, 130 in a shell."""
    sys.excepthook = _on_error


def say_stopped(message: str = "stopped") -> None:
    """Prints one line; a further Ctrl-C then ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print(message, file=sys.stderr, flush=True)


def _on_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        try:
            say_stopped()
        except KeyboardInterrupt:  # once more, before the first line of it
            say_stopped()
    elif sys.excepthook is _on_error:  # W&B's hook, which calls this one, has printed it
        sys.__excepthook__(kind, error, trace)
