"""Whether numbers can be drawn: NaN and infinite ones cannot."""

from torch import Tensor


class NotFiniteError(ValueError):
    """Numbers that are to be drawn are NaN or infinite."""


def check_finite(values: Tensor, what: str) -> Tensor:
    """Returns the values.

    Raises:
        NotFiniteError: One of them is NaN or infinite; the message says `what` they are.
    """
    if not values.isfinite().all():
        raise NotFiniteError(f"the {what} are NaN or infinite")
    return values
