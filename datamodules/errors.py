"""The error of data that cannot be used, in a file without imports for processes that must start fast."""


class DataError(RuntimeError):
    """Raised for data that cannot be used. The message is one line: what is wrong, where, and what to do."""
