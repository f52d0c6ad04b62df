"""The Pareto front of points: those for which no other one is at least as good in both numbers and better in one."""

from collections.abc import Sequence

from genlab.report.compare.comparability import Better


def pareto_front(points: Sequence[tuple[float, float]], better: tuple[Better, Better]) -> list[int]:
    """Returns the indices of the members, the best first number first. Equal points are all members.

    Args:
        points: The two numbers of each point.
        better: The better direction of the first and of the second number.

    >>> pareto_front([(1, 5), (2, 3), (2, 4), (3, 3)], ("lower", "lower"))
    [0, 1]
    """
    first, second = (1 if direction == "lower" else -1 for direction in better)
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (first * points[i][0], second * points[i][1])):
        last = points[front[-1]] if front else None
        if last is None or second * (points[index][1] - last[1]) < 0 or points[index] == last:
            front.append(index)
    return front
