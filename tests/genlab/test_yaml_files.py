"""Broken and hostile YAML is one line, at once, whichever program reads it."""

import os
from pathlib import Path

import pytest
import yaml

from genlab.cli.main import main
from genlab.runs.errors import UsageError
from genlab.yaml_files import MAX_DEPTH, check_yaml, describe, load_yaml, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(20)
)
REFUSED = {
    BOMB: "line 6: it has more than 100,000 values",
    "[" * 100_000: "line 1: it is nested more than 50 levels",
    "{a: " * 100_000: "line 1: it is nested more than 50 levels",
    "- " * 100_000: "line 1: it is nested more than 50 levels",
    "a: &a [*a]": "line 1: &a contains itself",
    "a: 1\nb: {c: 1, c: 2}": "line 2: key c occurs twice, first in line 2",
    "model: VAE\ndata: MNIST\nmodel: GAN": "line 3: key model occurs twice, first in line 1",
    "{a: [}": "line 1: did not find expected node content",
    "a: 1\n---\nb: 2": "line 2: but found another document",
    "a: 2020-02-31": "day is out of range for month",
    f"a: {'9' * 5000}": "limit (4300 digits)",
    "a: !!python/object:os.system 1": "line 1: could not determine a constructor",
    "a: \x07": "control characters are not allowed",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_a_document_out_of_bounds_is_an_error(text: str):
    with pytest.raises(yaml.YAMLError) as error:
        load_yaml(text)
    said = describe(error.value)
    assert REFUSED[text] in said and "\n" not in said


def test_what_is_within_the_bounds_is_read_as_before():
    text = "a: &a {x: [1, 2.5e-3, yes, null]}\nb: {<<: *a, y: *a}\n'c': é\n"
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml("\ufeffa: 1") == {"a": 1} and load_yaml("") is None
    check_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    check_yaml("a: 1\na: 2", repeated_keys=True)


FILES = {
    "utf16": ("model: VAE".encode("utf-16"), "it is UTF-16 text; save the file as UTF-8"),
    "utf32": ("model: VAE".encode("utf-32"), "it is UTF-32 text; save the file as UTF-8"),
    "bare_utf16": ("model: VAE".encode("utf-16-le"), "it is no text file"),
    "latin1": ("# Gen\n# Genève".encode("latin-1"), "line 2 is not UTF-8 text; save the file as UTF-8"),
    "binary": (bytes(range(256)), "it is no text file"),
    "large": (b"[" + b"1," * 500_000 + b"1]", "it has 1,000,003 bytes, and at most 1,000,000 are read"),
    "bomb": (BOMB.encode(), "it has more than 100,000 values"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_program_refuses_the_file_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content, complaint = FILES[name]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    for args in (
        ["fit", f"--config={path}", f"--run.root={tmp_path / 'runs'}"],
        ["fit", "--model=VAE", "--data=DigitsDataModule", f"--trainer={path}", f"--run.root={tmp_path / 'runs'}"],
        ["sweep", "run", str(path), f"--root={tmp_path / 'runs'}"],
    ):
        try:
            status = main(args)
        except SystemExit as error:
            status = error.code
        said = capsys.readouterr().err.strip()
        assert status == 2 and complaint in said, (args, said)
        assert said.count("\n") == (args[0] == "sweep" and name == "bomb"), said  # a list of all errors in a sweep
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("content", "complaint"), [("", "it is empty"), ("- a", "it has no options")])
def test_a_config_without_options_is_named(content: str, complaint: str, tmp_path: Path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert main(["fit", f"--config={path}"]) == 2
    assert capsys.readouterr().err == f"error: cannot read the config {path} ({complaint})\n"


def test_a_folder_or_a_pipe_is_no_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name, complaint in ((".", "it is a folder"), ("pipe", "it is a pipe or a device"), ("none", "No such file")):
        with pytest.raises(UsageError, match=f"^cannot read the config .*{complaint}"):
            read_yaml(tmp_path / name)
