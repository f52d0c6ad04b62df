"""The processes that train together."""

from lightning.pytorch.utilities.rank_zero import rank_zero_only


def first_process() -> bool:
    """Whether this is the one process, of all that train together, that writes files and prints."""
    return getattr(rank_zero_only, "rank", 0) == 0
