from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: epochs done of all, and the latest value of each metric."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
