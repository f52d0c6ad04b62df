from typing import ClassVar

import numpy as np

from datamodules.digits import digits
from datamodules.files import Arrays
from datamodules.mnist import MNISTDataModule

MAX_PER_KIND = 1000
"""Number of test images of each kind of anomaly, if there are as many normal test images."""


class AnomalyMNISTDataModule(MNISTDataModule):
    """MNIST for anomaly detection: normal digits to train on, a test set with four kinds of anomalies; 1 x 28 x 28.

    A label is the kind of image; 0 is normal. Training and validation images are all normal. The test set has MNIST's
    10,000 test images, followed by 1,000 images of each of four kinds of anomalies:

    - inverted: test images x as 1 - x.
    - rotated: test images rotated counter-clockwise by 90 degrees (all digits but 0) or by 180 degrees (3, 4 and 7).
      The others are left out because they would still look like digits.
    - letters: capital letters, see `datamodules/letters.py`.
    - digits: scikit-learn's digits (`DigitsDataModule`), which are thicker and come from another scanner.

    Examples:
        >>> AnomalyMNISTDataModule(batch_size=32).classes
        ('normal', 'inverted', 'rotated', 'letters', 'digits')
    """

    classes: ClassVar[tuple[str, ...]] = ("normal", "inverted", "rotated", "letters", "digits")

    def read(self) -> Arrays:
        from datamodules.letters import letters  # imports matplotlib

        mnist = super().read()
        normal, labels = mnist["x_test"], mnist["y_test"]
        n = min(MAX_PER_KIND, len(normal))
        quarter_turned = _evenly_spaced(normal[labels != 0], n // 2)
        half_turned = _evenly_spaced(normal[np.isin(labels, (3, 4, 7))], n - n // 2)
        anomalies = [
            255 - _evenly_spaced(normal, n),
            np.concatenate([np.rot90(quarter_turned, 1, (1, 2)), np.rot90(half_turned, 2, (1, 2))]),
            letters(n),
            _evenly_spaced(digits()[0], n),
        ]
        return {
            "x_train": mnist["x_train"],
            "y_train": np.zeros(len(mnist["x_train"]), dtype=np.int64),
            "x_test": np.concatenate([normal, *anomalies]),
            "y_test": np.repeat(np.arange(len(self.classes)), [len(normal), *map(len, anomalies)]),
        }


def _evenly_spaced(images: np.ndarray, n: int) -> np.ndarray:
    """Returns `n` images at even distances; some are repeated if there are fewer."""
    return images[np.arange(n) * len(images) // n]
