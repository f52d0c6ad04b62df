from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training after an epoch or a validation within one.

    Args:
        epoch: Number of completed epochs.
        epochs: Number of all epochs; -1 if it is not known.
        metrics: The latest value of each metric; those of validation only where it has just run.
        step: Number of completed steps.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    step: int
