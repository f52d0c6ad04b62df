from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training after an epoch: completed epochs, all epochs, and the latest value of each metric."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
