class UsageError(Exception):
    """Something the user asked for cannot be done; says what is wrong, where, what to do, in a line for each fault."""
