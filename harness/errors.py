class UsageError(Exception):
    """Something the user asked for cannot be done. The message is one line: what is wrong, where, what to do."""
