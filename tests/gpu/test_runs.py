"""Whole runs on a GPU: resumed ones, their checkpoints, two processes, sweeps, too little memory."""

import gc
import re
import subprocess
from pathlib import Path

import pytest
import torch

import train
from genlab.cli.train import command
from genlab.runs.folder import read_summary
from lit_models import Autoencoder, GenerativeModule
from tests import HANG_SECONDS
from tests.gpu import DEVICE, ON_CUDA, ON_DEVICE
from tests.helpers import run_program, same, start_program, stop_at, weights

SHORT = [
    "--data=DigitsDataModule",
    "--data.batch_size=128",
    "--data.shift=1",
    "--trainer.max_epochs=3",
    "--trainer.log_every_n_steps=4",
    "--run.pictures=false",
    *ON_DEVICE,
]
CLASSIFIER = ["--model=Classifier", "--model.channels=[4,8]", "--model.dropout=0.5", *SHORT]
GAN = [
    "--model=GAN",
    "--model.latent_dim=5",
    "--model.generator=DCGANGenerator",
    "--model.generator.channels=4",
    "--model.discriminator=DCGANDiscriminator",
    "--model.discriminator.channels=4",
    "--model.recipe.ema_decay=0.9",
    *SHORT,
]
KINDS = {"classifier": CLASSIFIER, "gan": GAN}


def run(root: Path, *args: str) -> Path:
    return train.main(["fit", *args, f"--run.root={root}"]).folder


def stopped_and_resumed(root: Path, *args: str) -> Path:
    """A run that a signal stopped in its second epoch and that went on."""
    assert command(["fit", *args, *stop_at(14, "term"), f"--run.root={root}", "--run.name=parts"]) == 143
    [checkpoint] = root.glob("*/parts/checkpoints/last.ckpt")
    return run(root, *args, "--run.name=parts", f"--ckpt_path={checkpoint}")


@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_exact_where_the_device_is_deterministic(kind: str, tmp_path: Path):
    args = [*KINDS[kind], "--trainer.deterministic=true"]
    whole, parts = run(tmp_path, *args, "--run.name=whole"), stopped_and_resumed(tmp_path, *args)
    assert same(weights(whole), weights(parts))
    assert (whole / "metrics.csv").read_text() == (parts / "metrics.csv").read_text()


def test_a_resumed_run_is_close_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole, parts = run(tmp_path, *CLASSIFIER, "--run.name=whole"), stopped_and_resumed(tmp_path, *CLASSIFIER)
    pairs = [(weights(whole)[name].double(), other.double()) for name, other in weights(parts).items()]
    distance = sum(((a - b) ** 2).sum() for a, b in pairs) ** 0.5 / sum((a**2).sum() for a, _ in pairs) ** 0.5
    with capsys.disabled():
        print(f"\nrelative distance of the weights of a resumed run to those of an unbroken one: {float(distance):.1e}")
    assert distance < 0.01


def test_a_checkpoint_gives_the_same_images_on_the_cpu(tmp_path: Path):
    model = GenerativeModule.load(run(tmp_path, *GAN) / "checkpoints" / "best.ckpt")
    codes = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        on_cpu = model.decode(codes)
        on_device = model.to(DEVICE).decode(codes.to(DEVICE)).cpu()
    torch.testing.assert_close(on_cpu, on_device, rtol=0, atol=5e-3)  # a GPU's convolutions round to TF32


def test_a_run_goes_on_from_a_device_to_another(tmp_path: Path):
    there = [f"--trainer.accelerator={'cpu' if ON_CUDA else 'auto'}"]
    folder = run(tmp_path, *CLASSIFIER, "--run.name=moved")
    for device in (there, ON_DEVICE):
        epochs = f"--trainer.max_epochs={len(device) + 3}"
        folder = run(tmp_path, *CLASSIFIER, *device, epochs, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")
    assert read_summary(folder)["state"] == "finished"


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_two_processes_train_as_one(backend: str, tmp_path: Path):
    """By gloo on one GPU, as two nodes of one device each; by NCCL on two GPUs."""
    if backend == "nccl" and (not ON_CUDA or torch.cuda.device_count() < 2):
        pytest.skip("NCCL needs two GPUs")
    args = [*GAN, "--data.batch_size=64", "--run.name=two", f"--run.root={tmp_path}"]
    args += ["--trainer.strategy=lightning.pytorch.strategies.DDPStrategy"]
    args += [f"--trainer.strategy.process_group_backend={backend}"]
    if backend == "nccl":
        assert run_program("train.py", "fit", *args, "--trainer.devices=2").returncode == 0
    else:
        nodes = [start_node(rank, [*args, "--trainer.num_nodes=2"]) for rank in range(2)]
        said = [node.communicate(timeout=HANG_SECONDS)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], said
    [two] = tmp_path.glob("*/two")
    one = run(tmp_path, *GAN, "--run.name=one")
    assert read_summary(two)["images_seen"] == read_summary(one)["images_seen"]
    assert all(values.isfinite().all() for values in weights(two).values())


def start_node(rank: int, args: list[str]) -> subprocess.Popen[str]:
    """Starts one of two processes, each of which believes to be alone on its machine."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "NODE_RANK": str(rank), "LOCAL_RANK": "0"}
    return start_program("train.py", "fit", *args, **place)


SWEEP = """
name: devices
project: genlab
program: train.py
method: grid
metric: {name: test/mse, goal: minimize}
parameters:
  model.latent_dim: {values: [1, 2, 3, 4, 5, 6, 7, 8]}
command: ["${env}", "${interpreter}", "${program}", fit, --model=Autoencoder, --data=DigitsDataModule,
  --trainer.max_epochs=1, --run.pictures=false, --trainer.accelerator=DEVICE, "${args}"]
"""


def test_workers_share_a_device(tmp_path: Path):
    path = tmp_path / "devices.yaml"
    path.write_text(SWEEP.replace("DEVICE", ON_DEVICE[0].partition("=")[2]))
    devices = ["--devices=0"] if ON_CUDA else []
    done = run_program("sweep.py", "run", str(path), f"--root={tmp_path}", "--workers=4", "--no-report", *devices)
    assert done.returncode == 0, done.stdout + done.stderr
    states = [read_summary(summary.parent)["state"] for summary in tmp_path.glob("devices/*/summary.json")]
    assert states == ["finished"] * 8


def too_small(self: Autoencoder, *args: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")


def test_too_little_memory_is_one_line_and_the_next_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    args = ["fit", "--model=Autoencoder", "--model.latent_dim=3", *SHORT, f"--run.root={tmp_path}"]
    with monkeypatch.context() as patched:
        if ON_CUDA:
            gc.collect()
            torch.cuda.empty_cache()
            limit = torch.cuda.memory_reserved() + 2**26  # cuBLAS keeps its workspace of earlier tests
            torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
        else:
            patched.setattr(Autoencoder, "training_step", too_small)
        try:
            status = command([*args, "--data.batch_size=1437", "--run.name=large"])
        finally:
            if ON_CUDA:
                torch.cuda.set_per_process_memory_fraction(1.0)
    said = capsys.readouterr().err
    assert status == 2
    assert re.fullmatch(r"error: the memory of the GPU is too small for --data\.batch_size 1437 [^\n]*\n", said), said
    assert command([*args, "--run.name=small"]) == 0
