class UsageError(Exception):
    """Something the user asked for cannot be done; says what is wrong, where, what to do, in a line for each fault."""


def described(error: BaseException) -> str:
    """An error in one line: its kind, and what it says if it says anything."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
