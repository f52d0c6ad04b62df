class UsageError(Exception):
    """Something the user asked for cannot be done. The message says what is wrong, where, what to do, a line a fault."""
