"""The table of models and sizes on the docs page."""

import re

import pytest
from torch.nn.utils.parametrizations import _SpectralNorm

from studies.sizes import ADVICE, PAGE, ROWS, SHAPES, cell, name

FEW = {len(SHAPES) - 1}
SOME = {0, len(SHAPES) - 2, len(SHAPES) - 1}
SLOW = ("DDPM", "ScoreModel", "Probe", "AngleProbe", "EfficientNet")
"""Models that take long to build."""


def test_the_table_has_a_row_for_each_model():
    lines = re.findall(r"^\| (`\w.*?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert lines == [name(row) for row in ROWS], "run python -m studies.sizes"


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_table_is_what_the_code_does(whole: bool, monkeypatch: pytest.MonkeyPatch):
    """Not the whole one: a few sizes of each row, and all of those rows that have an advice."""
    monkeypatch.setattr(_SpectralNorm, "_power_method", lambda *_: None)  # takes most of the time
    text = PAGE.read_text(encoding="utf-8")
    for row in ROWS:
        (line,) = re.findall(rf"^\| {re.escape(name(row))} \| (.*) \|$", text, flags=re.MULTILINE)
        cells = line.split(" | ")
        checked = FEW if any(word in name(row) for word in SLOW) else SOME
        for place in range(len(SHAPES)) if whole or set(cells) != {"yes"} else checked:
            assert cells[place] == cell(row, SHAPES[place]), f"{name(row)}: run python -m studies.sizes"
        for advice in set(cells) - {"yes"}:
            side = int(ADVICE.search(advice)[1])  # type: ignore[index]
            assert cell(row, (1, side, side)) == cell(row, (3, side, side)) == "yes"
