"""With `--trusted false`, a config names classes of genlab, PyTorch and Lightning, and nothing else is run."""

from pathlib import Path

import pytest

from genlab.cli.main import main
from genlab.cli.train import check
from genlab.packaged import packaged_names

FIT = ["fit", "--model=Autoencoder", "--data=DigitsDataModule"]
LAMBDA = "trainer: {callbacks: [{class_path: LambdaCallback, init_args: {on_fit_start: %s}}]}"
THROUGHPUT = "trainer: {callbacks: [{class_path: ThroughputMonitor, init_args: {batch_size_fn: %s}}]}"
STARTER = (
    "{class_path: torch.distributed.launcher.api.elastic_launch, init_args: {entrypoint: ls, config: {min_nodes: 1,"
    " max_nodes: 1, nproc_per_node: 1}}}"
)
HOSTILE = {
    LAMBDA % "os.system": "os.system",
    LAMBDA % "torch.hub.load": "LambdaCallback",
    LAMBDA % "torch.os.system": "posix.system",
    THROUGHPUT % "torch.load": "--trainer.callbacks.batch_size_fn is load",
    THROUGHPUT % STARTER: "elastic_launch",
    "trainer: {callbacks: hostile.Adam}": "--trainer.callbacks is hostile.Adam",
    "trainer: {logger: {class_path: hostile.Adam}}": "--trainer.logger is hostile.Adam",
    "trainer: {strategy: {class_path: hostile.Adam}}": "--trainer.strategy is hostile.Adam",
    "trainer: {plugins: [{class_path: subprocess.Popen, init_args: {args: ls}}]}": "--trainer.plugins is subprocess",
    "model: {class_path: Autoencoder, init_args: {optimizer: hostile.Adam}}": "--model.optimizer is hostile.Adam",
    "model: hostile.Adam": "--model is hostile.Adam",
    "data: {class_path: hostile.Adam}": "--data is hostile.Adam",
    "import: hostile": "--import hostile runs that package",
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module that leaves a file behind once it is imported."""
    (tmp_path / "hostile.py").write_text(
        "import pathlib, torch\npathlib.Path('ran').touch()\nclass Adam(torch.optim.Adam): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("config", HOSTILE)
def test_nothing_else_is_run(config: str, hostile: Path, capsys: pytest.CaptureFixture[str]):
    (hostile / "c.yaml").write_text(config)
    given = [word for word in FIT if "hostile" not in config or not config.startswith(f"{word[2:].split('=')[0]}:")]
    try:
        status = main([*given, "--trusted=false", "--config=c.yaml"])
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr().err.strip()
    assert status == 2 and HOSTILE[config] in said and "--trusted false allows" in said and said.count("\n") == 0
    assert not (hostile / "ran").exists() and not (hostile / "runs").exists()


def test_the_command_line_counts_before_the_config(hostile: Path):
    (hostile / "c.yaml").write_text("trusted: true")
    (hostile / "safe.yaml").write_text("trusted: false")
    own = [*FIT, "--model.optimizer=hostile.Adam"]
    for args in (["--trusted=false", "--config=c.yaml"], ["--config=safe.yaml"], ["--trusted=no"]):
        assert "--model.optimizer is hostile.Adam" in str(check([*own, *args])), args
    assert not (hostile / "ran").exists()
    for args in (["--trusted=true", "--config=safe.yaml"], ["--config=c.yaml"], []):
        assert check([*own, *args]) is None, args
    assert (hostile / "ran").exists()


@pytest.mark.parametrize("name", packaged_names("configs")[::12])
def test_configs_of_genlab_need_no_trust(name: str):
    assert check(["fit", f"--config={name}", "--trusted=false", "--trainer.callbacks=LearningRateMonitor"]) is None
