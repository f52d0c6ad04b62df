"""The tests of litgen."""

HANG_SECONDS = 240.0
"""Far longer than anything takes on a slow and busy machine, so that what hangs fails its test, and only that."""
