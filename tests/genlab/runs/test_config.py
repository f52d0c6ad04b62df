from pathlib import Path

import pytest
import yaml

from genlab.runs.config import (
    config_files,
    flatten,
    format_value,
    option,
    overridden_values,
    recorded_config,
    run_folder,
    run_name,
)
from genlab.runs.folder import RunOptions

NESTED = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 5, "precision": None, "deterministic": None},
    "model": {
        "class_path": "lit_models.Autoencoder",
        "init_args": {"depth": 3, "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}},
    },
    "run": {"root": "runs"},
    "ckpt_path": None,
}


def test_flatten_gives_dotted_keys():
    flat = flatten(NESTED)
    assert flat["model"] == "lit_models.Autoencoder" and flat["model.depth"] == 3
    assert flat["model.optimizer"] == "torch.optim.Adam" and flat["model.optimizer.lr"] == 1e-3
    assert flat["trainer.max_epochs"] == 5 and flat["run.root"] == "runs"


def test_the_recorded_config_holds_model_data_and_changed_options():
    defaults = {"trainer": {"max_epochs": None, "precision": None}, "model": None}
    config = recorded_config(NESTED, defaults, ["fit", "--trainer.precision=null"])
    assert set(config) == {
        "seed_everything", "trainer.max_epochs", "trainer.precision",
        "model", "model.depth", "model.optimizer", "model.optimizer.lr",
    }  # fmt: skip


def test_overridden_values():
    args = [
        "fit", "--config", "a.yaml", "-c=b.yaml", "--model.init_args.depth=3", "--data.batch_size", "7",
        "--trainer.callbacks+=X", "--run.name=x", "--ckpt_path=last", "--model={'latent_dim': 2}",
    ]  # fmt: skip
    assert overridden_values(args) == {
        "model.depth": 3, "data.batch_size": 7, "trainer.callbacks": "X", "model.latent_dim": 2,
    }  # fmt: skip
    assert config_files(args) == ["a.yaml", "b.yaml"]
    assert option(args, "data.batch_size") == "7" and option(args, "run.name") == "x" and option(args, "none") is None


@pytest.mark.parametrize(
    "args",
    [
        ["--model=VAE", "--model.optimizer=SGD", "--model.optimizer.lr=0.1"],
        ["--model.class_path=VAE", "--model.init_args.optimizer.class_path=SGD", "--model.optimizer.init_args.lr=0.1"],
        ["--model={'class_path': 'VAE', 'init_args': {'optimizer': {'class_path': 'SGD', 'init_args': {'lr': 0.1}}}}"],
        ["--model", "VAE", "--model", "{init_args: {optimizer: {class_path: SGD, init_args: {lr: 0.1}}}}"],
    ],
)
def test_a_key_has_one_name_however_it_is_written(args: list[str]):
    assert overridden_values(args) == {"model": "VAE", "model.optimizer": "SGD", "model.optimizer.lr": 0.1}
    folder = run_folder(["fit", "--config=x.yaml", *args], RunOptions(), {"data": "D", **overridden_values(args)})
    assert folder.name == "model=VAE,lr=0.1,optimizer=SGD"


def test_a_file_in_place_of_options_gives_its_stem():
    given = ["fit", "--config=x.yaml", "--trainer", "short.yaml", "--model.optimizer=sgd.yaml"]
    config = {"model": "M", "data": "D", "model.optimizer": "torch.optim.SGD", "trainer.max_epochs": 2}
    assert run_folder(given, RunOptions(), config).name == "optimizer=sgd,trainer=short"


def test_what_a_sweep_varies_is_in_the_name():
    args = ["fit", "--config=x.yaml", "--data.root=/a", "--checkpoint.every_n_steps=3", "--model.depth=1"]
    config = {"model": "M", "data": "D", **overridden_values(args)}
    assert run_folder(args, RunOptions(), config).name == "depth=1"
    swept = ["data.root", "checkpoint.every_n_steps"]
    assert run_folder(args, RunOptions(), config, swept).name == "every_n_steps=3,root=_a"


@pytest.mark.parametrize("value", [[None, 1], {"a": None}, {"a": 1e-7}, ["a\nb"], ["x: y", "None", 'it\'s "so"'], [[]]])
def test_yaml_reads_a_formatted_list_or_block_back(value):
    assert yaml.safe_load(format_value(value)) == value


NUMBERS = "beta=1.235e-05,lr=0.3,w=0.123456"
"""Numbers that nobody types are rounded."""


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "default"),
        ({"model.latent_dim": 10, "seed_everything": 1, "model.depth": 3}, "depth=3,latent_dim=10,seed=1"),
        ({"model.freeze_encoder": False, "trainer.precision": None}, "freeze_encoder=false,precision=null"),
        ({"model.a.lr": 1e-4, "model.b.lr": 0.5}, "model.a.lr=0.0001,model.b.lr=0.5"),
        ({"model.channels": [16, 32]}, "channels=16x32"),
        ({"model.optimizer.lr": 1.0}, "lr=1"),
        ({"model.optimizer.lr": "1e-4"}, "lr=0.0001"),
        ({"model.optimizer.lr": 0.00010}, "lr=0.0001"),
        ({"model.optimizer.lr": 0.1 + 0.2, "model.beta": 1.2345678e-5, "model.w": 0.123456}, NUMBERS),
        ({"data": "b.Data", "model.depth": 1, "model": "a.VAE", "data.size": 8}, "model=VAE,data=Data,depth=1,size=8"),
        ({"trainer": None, "model.depth": 1}, "depth=1"),
        ({"trainer.callbacks.how": "kill", "model.depth": 1}, "depth=1"),
        ({"data.root": "/big/disk", "trainer.accelerator": "gpu", "checkpoint.every_n_steps": 3}, "default"),
    ],
)
def test_run_names(config: dict, name: str):
    assert run_name(config, config) == name


@pytest.mark.parametrize(
    ("args", "options", "folder"),
    [
        (["fit", "--config", "configs/x.yaml"], {}, "runs/x/default"),
        (["fit", "--config=x.yaml", "--model.depth=3"], {}, "runs/x/depth=3"),
        (["fit", "--config=x.yaml", "--config=gpu.yaml"], {}, "runs/x/config=gpu"),
        (["fit", "--model=M", "--data=D"], {}, "runs/m_d/default"),
        (["fit", "--model=M", "--data=D"], {"experiment": "x"}, "runs/x/model=M,data=DDataModule"),
        (["fit", "--config=config.yaml"], {"experiment": "x", "name": "depth=2"}, "runs/x/depth=2"),
        (["fit", "--config=c.yaml", "--model.depth=3"], {"experiment": "x", "name": "a=1"}, "runs/x/a=1,depth=3"),
        (["fit", "--config=c.yaml", "--run.name=n", "--model.depth=3"], {"name": "n"}, "runs/c/n"),
        (["fit", "--config=x.yaml", "--run.name=../up"], {"root": "r"}, "r/x/_up"),
    ],
)
def test_run_folders(args: list[str], options: dict, folder: str):
    config = {"model": "p.M", "data": "q.DDataModule", "model.depth": 3}
    assert run_folder(args, RunOptions(**options), config) == Path(folder)


def test_long_names_are_cut_but_stay_different():
    folders = {
        run_folder(["fit", "--config=x.yaml", f"--run.name={'n' * 300}{i}"], RunOptions(), {"model": "M", "data": "D"})
        for i in range(3)
    }
    assert len(folders) == 3 and all(len(folder.name) <= 150 for folder in folders)


def test_a_class_has_one_name_with_or_without_its_module():
    for written in ("AdamW", "torch.optim.AdamW"):
        assert run_name({"model.optimizer"}, {"model.optimizer": written}) == "optimizer=AdamW"
    assert run_name({"model.encoder_checkpoint"}, {"model.encoder_checkpoint": "a.b/C"}) == "encoder_checkpoint=a.b/C"
