import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.finite import NotFiniteError


class PictureCallback(Callback, ABC):
    """Base of callbacks that save pictures after the test.

    A picture of NaN or infinite numbers, such as those of a run that has diverged, is left out with a line on stderr.
    """

    pictures = True
    """Whether to save the pictures; train.py sets it to run.pictures."""
    _last_line = ""

    @abstractmethod
    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the pictures; called by the first process only.

        Raises:
            NotFiniteError: There are NaN or infinite numbers to be drawn.
        """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self.leaving_out():
            if self.pictures and trainer.is_global_zero:
                self.draw(trainer, pl_module)

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Context that draws, without gradients, and ends early at NaN or infinite numbers. It says so once."""
        try:
            with torch.no_grad():
                yield
        except NotFiniteError as error:
            line = f"{type(self).__name__} leaves a picture out: {error}"
            if line != self._last_line:
                self._last_line = line
                print(line, file=sys.stderr, flush=True)
