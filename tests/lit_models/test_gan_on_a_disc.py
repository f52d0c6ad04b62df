"""A GAN that is trained on the uniform distribution on the unit disc, against Gibbs sampling."""

from collections.abc import Iterator

import pytest
import torch
from lightning import Trainer, seed_everything

from genlab.metrics.two_sample import permutation_test
from lit_models import GAN
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.common.objectives import LeastSquares
from lit_models.common.priors import UnitDisc

COUNT = 1000


class Points:
    """Batches of new points of the disc, as images of two pixels in [0, 1]."""

    def __init__(self, batches: int, batch_size: int) -> None:
        self.prior = UnitDisc().build(2)
        self.batches = batches
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.batches):
            points = self.prior.sample(self.batch_size)
            yield (points.view(-1, 1, 1, 2) + 1) / 2, torch.zeros(self.batch_size, dtype=torch.int64)


def draws(model: GAN) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return 2 * model.eval().sample(COUNT).flatten(1) - 1


def trained_on_a_disc(batches: int) -> GAN:
    seed_everything(0, verbose=False)
    model = GAN(
        latent_dim=4,
        generator=MLPGenerator((64, 64)),
        discriminator=MLPDiscriminator((64, 64)),
        objective=LeastSquares(),
        recipe=AdversarialRecipe(ema_decay=0.999),
        image_shape=(1, 1, 2),
        optimizer=lambda params: torch.optim.Adam(params, lr=5e-4, betas=(0.5, 0.99)),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train_dataloaders=Points(batches, 128))
    return model


@pytest.mark.slow
def test_samples_and_gibbs_draws_have_one_distribution():
    """Permutation test at a level of 1 %: a perfect GAN fails one run in a hundred; a badly trained one is rejected."""
    torch.manual_seed(2)
    gibbs = UnitDisc().build(2).sample(COUNT)
    assert permutation_test(draws(trained_on_a_disc(6000)), gibbs) > 0.01
    assert permutation_test(draws(trained_on_a_disc(200)), gibbs) < 0.01
