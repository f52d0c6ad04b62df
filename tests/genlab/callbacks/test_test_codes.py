from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback

from datamodules import DigitsDataModule
from genlab.callbacks import (
    ActiveUnits,
    LatentCorrelationMatrix,
    LatentPlane,
    LatentScatter,
    LatentTraversals,
    TestCodes,
)
from genlab.callbacks.test_codes import encode_test_images
from genlab.latents import encode_examples
from lit_models import VAE, Autoencoder


@pytest.mark.parametrize(("kind", "batches"), [(Autoencoder, None), (Autoencoder, 1), (VAE, None)])
def test_callbacks_share_the_codes_of_the_test_images(kind: Any, batches: int | None, tmp_path: Path):
    """Those of the test steps, if these encode all images; a VAE draws its codes there."""
    data = DigitsDataModule(batch_size=16)
    model = kind(latent_dim=3, image_shape=data.image_shape)
    encoded: list[int] = []
    model.encoder.register_forward_hook(lambda network, inputs, output: encoded.append(len(inputs[0])))
    kept: list[torch.Tensor] = []
    keep = LambdaCallback(on_test_end=lambda trainer, module: kept.append(encode_test_images(trainer, module, 50)))
    callbacks = [TestCodes(), ActiveUnits(), LatentCorrelationMatrix(), LatentPlane(), LatentScatter(), keep]
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "limit_test_batches": batches}
    trainer = Trainer(callbacks=[*callbacks, LatentTraversals()], default_root_dir=tmp_path, **options)
    trainer.test(model, datamodule=data, verbose=False)
    images = data.number_of_images("test")
    assert (
        sum(encoded)
        == {(Autoencoder, None): images, (Autoencoder, 1): 64 + images, (VAE, None): 2 * images}[kind, batches]
    )
    assert len(list((tmp_path / "media").iterdir())) == 4
    with torch.no_grad():
        assert torch.allclose(kept[0], encode_examples(model.eval(), data, "test", 50), atol=1e-6)
    assert len(model.encoder._forward_hooks) == 1  # that of this test
