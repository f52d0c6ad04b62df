"""A name that does not exist is one line with the name that was probably meant, and status 2."""

from pathlib import Path

import pytest

from genlab.cli.main import main
from genlab.suggestions import did_you_mean

FIT = ["fit", "--model=Autoencoder", "--data=DigitsDataModule"]
GAN = ["fit", "--model=GAN", "--data=MNISTDataModule"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["fti"], "there is no command fti; did you mean fit?"),
        (
            ["fit", "--model=MyVAE", "--data=DigitsDataModule"],
            "VAE? Or give your own class as my_package.MyVAE",
        ),
        (["fit", "--model=vae", "--data=DigitsDataModule"], "there is no model vae; did you mean VAE?"),
        (
            ["fit", "--model=Zzz", "--data=DigitsDataModule"],
            "no model Zzz; `genlab models` lists them, or give",
        ),
        (
            ["fit", "--model=VAE", "--data=DigitDataModule"],
            "there is no data module DigitDataModule; did you mean DigitsDataModule?",
        ),
        (["fit", "--model=VAE", "--data=Zzz"], "there is no data module Zzz; `genlab data` lists them, or"),
        (["fit", "--model=VAE"], "--data is missing; name a class, or a --config that does"),
        (["fit"], "--model and --data are missing"),
        (["test"], "give --ckpt_path RUN/checkpoints/best.ckpt"),
        (["test", "--ckpt_path=nothing.ckpt"], "there is no checkpoint nothing.ckpt"),
        (["fit", "--ckpt_path", "nothing.ckpt"], "there is no checkpoint nothing.ckpt"),
        (["test", f"--ckpt_path={__file__}"], "test_names.py is no checkpoint"),
        (
            ["fit", "--data=DigitsDataModule", "--model.latent_dim=3"],
            "model.latent_dim needs the class too: give --model CLASS; `genlab models` lists them",
        ),
        (
            ["fit", "--model=VAE", "--data=DigitsDataModule", "--model.networks.hidden_dims=[8]"],
            "model.networks.hidden_dims needs the class too: give --model.networks MLPNetworks (",
        ),
        (
            [*GAN, "--model.objective.label_smoothing=0.1"],
            "needs the class too: give --model.objective Minimax; choose from Minimax, NonSaturating",
        ),
        ([*GAN, "--model.recipe.nonsense=3"], "there is no option --model.recipe.nonsense"),
        ([*GAN, "--model=Probe"], "--model.encoder_checkpoint is missing; give a value"),
        (["--print_completion", "foo"], "choose from jsonschema, shtab-bash, shtab-zsh,"),
        (["fit", "--model.generator.help"], "needs the class of the model too: give --model CLASS"),
        ([*FIT, "--trainer.max_epochs=x"], "--trainer.max_epochs: expected a whole number, not x"),
        (["models", "VAE"], "genlab models takes no argument VAE"),
        (["data", "--nothing"], "genlab data takes no argument --nothing"),
        (["fit", "--model=LatentGAN", "--data=MNISTDataModule"], "--model needs a class that is not abstract"),
        (
            ["fit", "--model=nowhere.VAE", "--data=MNISTDataModule"],
            "'nowhere'; start in the folder that holds it",
        ),
        (["fit", "--model=lit_models.VEA", "--data=MNISTDataModule"], "has no attribute 'VEA'"),
        (["fit", "--model.help=VEA"], "there is no model VEA; did you mean VAE?"),
        (
            [*FIT, "--model.latent_dimm=3"],
            "there is no option --model.latent_dimm of Autoencoder; did you mean --model.latent_dim?",
        ),
        (
            [*FIT, "--data.batch_sise=3"],
            "no option --data.batch_sise of DigitsDataModule; did you mean --data.batch_size?",
        ),
        ([*FIT, "--run.pictres=no"], "there is no option --run.pictres; did you mean --run.pictures?"),
        ([*FIT, "--trainer.max_epoch=3"], "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        ([*FIT, "--model.image_shape=[1,30,30]"], "model.image_shape is set by the data; leave it out"),
        ([*FIT, "--model.init_args.image_shape=[1,30,30]"], "model.image_shape is set by the data; leave it out"),
        ([*FIT, "--model={class_path: GAN, init_args: {image_shape: [1, 30, 30]}}"], "image_shape is set by the data"),
        ([*GAN[:1], "--config=gan_mnist", "--model.num_classes=3"], "no option --model.num_classes of GAN"),
        (["fit", "--model=VEA", "--model.num_classes=3", FIT[2]], "there is no model VEA; did you mean VAE?"),
        ([*FIT, "--model.optimizer=Adamm"], "there is no optimizer Adamm; did you mean Adam?"),
        ([*FIT, "--data.batch_size=x"], "--data.batch_size: expected a whole number, not x"),
        ([*FIT, "--config=autoencoder_digit"], "no config autoencoder_digit; did you mean autoencoder_digits?"),
        ([*FIT, "--config=configs/gan_mnst.yaml"], "no config configs/gan_mnst.yaml; did you mean gan_mnist?"),
        ([*FIT, "--config=/nowhere/gan_mnist.yaml"], "there is no config /nowhere/gan_mnist.yaml"),
        ([*FIT, "--import=nowhere"], "cannot import nowhere (No module named 'nowhere')"),
        ([*GAN, "--model.prior=Normall"], "there is no prior Normall; did you mean Normal?"),
        ([*GAN, "--model.prior=Zzz"], "there is no prior Zzz; choose from Empirical, "),
        ([*GAN, "--model.recipe.ema_deacy=0.5"], "did you mean --model.recipe.ema_decay?"),
        (["sweep", "run", "quickstrt"], "there is no sweep quickstrt; did you mean quickstart?"),
        (["sweep", "rnu", "quickstart"], "there is no rnu; did you mean run?"),
        (["sweep", "run", "quickstart", "--overide=a=1"], "there is no option --overide; did you mean --override?"),
        (["sample", "a.ckpt", "--guidence=1"], "there is no option --guidence; did you mean --guidance-scale?"),
        (["sample", "a.ckpt", "--sampler=DIM"], "there is no DIM; did you mean DDIM?"),
        (["sample", "a.ckpt", "--data=MNIST"], "there is no checkpoint a.ckpt"),
    ],
)
def test_one_line_says_what_is_near(args: list[str], complaint: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(args)
    except SystemExit as error:
        status = error.code
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(errors) == 1 and errors[0].startswith("error: ") and complaint in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ("{model: MyVAE, data: DigitsDataModule}", "there is no model MyVAE; did you mean VAE?"),
        ("{model: VAE, data: DigitsDataModule, trainr: {max_epochs: 1}}", "did you mean --trainer.max_epochs?"),
        (
            "{model: {class_path: VAE, init_args: {latnt_dim: 1}}, data: DigitsDataModule}",
            "did you mean --model.latent_dim?",
        ),
        (
            "{model: {class_path: VAE, init_args: {image_shape: [1, 30, 30]}}, data: DigitsDataModule}",
            "model.image_shape is set by the data; leave it out",
        ),
        ("{model: [}", "c.yaml"),
        ("{import: nowhere, model: VAE, data: DigitsDataModule}", "cannot import nowhere"),
    ],
)
def test_a_config_is_read_as_carefully(contents: str, complaint: str, tmp_path: Path, capsys):
    (tmp_path / "c.yaml").write_text(contents)
    try:
        status = main(["fit", f"--config={tmp_path / 'c.yaml'}", f"--run.root={tmp_path / 'runs'}"])
    except SystemExit as error:
        status = error.code
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(errors) == 1 and complaint in errors[0] and not (tmp_path / "runs").exists()


def test_what_is_near_keeps_its_own_spelling():
    assert did_you_mean("vaes", ["GAN", "VAE"]) == "; did you mean VAE?" and did_you_mean("zzz", ["VAE"]) == ""
