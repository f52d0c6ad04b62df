"""What happens to a command line before it is parsed."""

from pathlib import Path

import pytest

from genlab.cli.lightning_cli import GenlabCLI, Parsed
from genlab.cli.prepare import prepare_args, with_classes_first, with_configs_first


@pytest.mark.parametrize(
    "args",
    [
        ["--trainer.max_epochs", "1", "--config", "ONE"],
        ["--config=ONE", "--trainer.max_epochs=1"],
        ["--trainer.max_epochs=1", "-c", "ONE", "--config=TWO"],
        ["--model=VAE", "--trainer.max_epochs=1", "-c=ONE"],
    ],
)
def test_options_win_over_configs_wherever_they_stand(args: list[str], tmp_path: Path):
    (tmp_path / "one.yaml").write_text("{model: Autoencoder, data: DigitsDataModule, trainer: {max_epochs: 30}}")
    (tmp_path / "two.yaml").write_text("{seed_everything: 7, trainer: {max_epochs: 40}}")
    files = {"ONE": str(tmp_path / "one.yaml"), "TWO": str(tmp_path / "two.yaml")}
    for name, path in files.items():
        args = [arg.replace(name, path) for arg in args]
    with pytest.raises(Parsed) as parsed:
        GenlabCLI(prepare_args(["fit", *args]), parse_only=True)
    config = parsed.value.cli.config.fit
    assert config.trainer.max_epochs == 1 and config.seed_everything == (
        7 if len(args) > 3 and "two" in args[-1] else 0
    )
    assert config.model.class_path.endswith("VAE" if "--model=VAE" in args else "Autoencoder")


def test_configs_keep_their_order_and_a_config_without_a_file_is_left_to_the_parser():
    assert with_configs_first(["fit", "--a=1", "-c", "x", "--b", "2", "--config=y", "--config"]) == [
        *("fit", "--config=x", "--config=y"),
        *("--a=1", "--b", "2", "--config"),
    ]
    assert with_configs_first([]) == []


def test_a_class_comes_before_its_own_options() -> None:
    args = ["fit", "--data.size", "[4, -1]", "--a=1.5", "--model.g.x=-1", "--model.g=G", "--data", "D"]
    ordered = ["fit", "--data", "D", "--data.size", "[4, -1]", "--a=1.5", "--model.g=G", "--model.g.x=-1"]
    assert with_classes_first(args) == ordered
    for kept in (["fit", "--model=A", "--model.x=1", "--model=B"], ["fit", "--config=c", "--model.x=1", "--model=B"]):
        assert with_classes_first(kept) == kept
    assert with_classes_first([]) == []
