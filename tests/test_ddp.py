"""Two gloo processes on the CPU against one process on the joined batches."""

import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from datamodules import BatchLoader
from genlab.runs.folder import read_summary
from lit_models import Autoencoder, Classifier, GenerativeModule
from tests import HANG_SECONDS, preloaded, wait_for
from tests.helpers import fit, run_program, small_autoencoder, start_program, weights


def model_of(kind: str) -> GenerativeModule:
    torch.manual_seed(0)
    if kind == "autoencoder":
        return Autoencoder(3, 2, 4, hidden_dim=16)
    return Classifier(channels=(4,), batch_norm=False, dropout=0.0, feature_dim=8, lr_schedule="constant")


def loader(batch_size: int, rank: int = 0, world_size: int = 1) -> BatchLoader:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return BatchLoader(
        images, torch.arange(64) % 10, batch_size=batch_size, shuffle=True, seed=3, rank=rank, world_size=world_size
    )


class Loss(torch.nn.Module):
    def __init__(self, model: GenerativeModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return next(iter(self.model.loss_terms(batch).values()))


def _rank(rank: int, kind: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    parallel = DistributedDataParallel(Loss(model_of(kind)))
    batch = next(iter(loader(8, rank, 2)))
    parallel(batch).backward()
    gradients = {name: parameter.grad for name, parameter in parallel.module.model.named_parameters()}
    torch.save({"gradients": gradients, "labels": batch[1]}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_gradients_of_two_processes_are_those_of_the_joined_batch(kind: str, tmp_path: Path):
    preloaded.two_processes(_rank, kind, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    model, batch = model_of(kind), next(iter(loader(16)))
    assert torch.equal(torch.cat([rank["labels"] for rank in ranks]), batch[1])
    Loss(model)(batch).backward()
    for name, parameter in model.named_parameters():
        for rank in ranks:
            torch.testing.assert_close(rank["gradients"][name], parameter.grad, rtol=1e-4, atol=1e-6)


def shell(root: Path, *args: str) -> None:
    options = [*args, f"--run.root={root}", "--trainer.accelerator=cpu"]
    done = run_program("train.py", "fit", *options, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_on_two_processes_equals_one_on_the_joined_batches(tmp_path: Path):
    """Both take the same images in the same steps, so that the results are equal up to rounding."""
    args = [arg for arg in small_autoencoder() if "batch_size" not in arg]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=50", "--run.name=two"]
    shell(tmp_path, *args, *two, "--run.pictures=true")
    one = fit(tmp_path, "--data.batch_size=100", "--run.name=one", "--run.pictures=true").folder
    pair = tmp_path / "autoencoder_digits" / "two"
    assert sorted(path.name for path in pair.parent.iterdir()) == ["one", "two"]
    for a, b in zip(weights(one).values(), weights(pair).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    a, b = read_summary(one), read_summary(pair)
    assert a["images_seen"] == b["images_seen"] and b["state"] == "finished"
    for name in ("val/mse", "test/mse", "test/abs_correlation", "test/abs_correlation_full"):
        assert a["metrics"][name] == pytest.approx(b["metrics"][name], rel=1e-3), name
    assert {path.name for path in (pair / "media").iterdir()} == {path.name for path in (one / "media").iterdir()}
    saved = torch.load(pair / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(saved["callbacks"]["ExactResume"]["ranks"]) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_both_and_saves_a_checkpoint(number: signal.Signals, tmp_path: Path):
    two = [*small_autoencoder(), "--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=100"]
    more = ["--trainer.max_epochs=100000", "--run.name=x", f"--run.root={tmp_path}", "--trainer.accelerator=cpu"]
    process = start_program("train.py", "fit", *two, *more, OMP_NUM_THREADS="1")
    folder = tmp_path / "autoencoder_digits" / "x"
    wait_for((folder / "checkpoints" / "last.ckpt").exists)
    process.send_signal(number)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 143, output
    assert read_summary(folder)["state"] == "killed"


def test_two_processes_resume_exactly(tmp_path: Path):
    two = [*small_autoencoder(), "--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=100"]
    shell(tmp_path, *two, "--trainer.max_epochs=3", "--run.name=whole")
    shell(tmp_path, *two, "--trainer.max_epochs=2", "--run.name=part")
    shell(tmp_path, *two, "--trainer.max_epochs=3", "--run.name=part", "--ckpt_path=last")
    folder = tmp_path / "autoencoder_digits"
    assert sorted(path.name for path in folder.iterdir()) == ["part", "whole"]
    for a, b in zip(weights(folder / "whole").values(), weights(folder / "part").values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_two_machines_without_a_shared_file_system_need_a_copy_of_the_run_to_resume_it(tmp_path: Path):
    """Two processes, each of which believes to be alone on its machine, with folders of their own."""
    roots = [tmp_path / "first", tmp_path / "second"]

    def fit_on_both(*args: str) -> tuple[list[int], str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        two = ["--trainer.num_nodes=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--run.name=x", *args]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        nodes = [
            start_program(
                "train.py", "fit", *small_autoencoder(), *two, f"--run.root={root}", **place, NODE_RANK=str(rank)
            )
            for rank, root in enumerate(roots)
        ]
        said = [node.communicate(timeout=HANG_SECONDS)[0] for node in nodes]
        return [node.returncode for node in nodes], "".join(said)

    assert fit_on_both()[0] == [0, 0]
    folder = roots[0] / "autoencoder_digits" / "x"
    assert read_summary(folder)["state"] == "finished" and not roots[1].exists()
    longer = ["--trainer.max_epochs=3", "--ckpt_path=last"]
    codes, said = fit_on_both(*longer)
    assert codes == [2, 2] and "(this machine: after" in said and "(this machine: none)" in said
    assert read_summary(folder)["state"] == "finished"
    shutil.copytree(*roots)
    codes, said = fit_on_both(*longer)
    assert codes == [0, 0], said
