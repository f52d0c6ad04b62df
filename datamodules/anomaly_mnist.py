from typing import ClassVar

import numpy as np

from datamodules.digits import digits
from datamodules.files import Arrays
from datamodules.mnist import MNISTDataModule

MOST_FOREIGN = 1000


class AnomalyMNISTDataModule(MNISTDataModule):
    """MNIST to learn what is normal, and a test on images of other kinds too; a label is the kind.

    Training and validation hold the normal images alone. The test is MNIST's own 10,000 images, followed by 1,000 of
    each foreign kind: test images inverted (1 - x); test images turned counter-clockwise by 90 degrees (every digit but
    0) or by 180 (3, 4 and 7), as others would still be digits; letters (`datamodules/letters.py`); scikit-learn's
    digits (`DigitsDataModule`), digits indeed but thicker ones from another scanner.
    """

    classes: ClassVar[tuple[str, ...]] = ("normal", "inverted", "rotated", "letters", "digits")

    def read(self) -> Arrays:
        from datamodules.letters import letters  # imports matplotlib

        mnist = super().read()
        normal, labels = mnist["x_test"], mnist["y_test"]
        n = min(MOST_FOREIGN, len(normal))
        quarter = _spread(normal[labels != 0], n // 2)
        half = _spread(normal[np.isin(labels, (3, 4, 7))], n - n // 2)
        foreign = [
            255 - _spread(normal, n),
            np.concatenate([np.rot90(quarter, 1, (1, 2)), np.rot90(half, 2, (1, 2))]),
            letters(n),
            _spread(digits()[0], n),
        ]
        return {
            "x_train": mnist["x_train"],
            "y_train": np.zeros(len(mnist["x_train"]), dtype=np.int64),
            "x_test": np.concatenate([normal, *foreign]),
            "y_test": np.repeat(np.arange(len(self.classes)), [len(normal), *map(len, foreign)]),
        }


def _spread(images: np.ndarray, n: int) -> np.ndarray:
    """`n` of the images at even distances; some more than once where there are fewer."""
    return images[np.arange(n) * len(images) // n]
