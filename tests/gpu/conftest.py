from pathlib import Path

import pytest

from tests.gpu import DEVICE, ON_CUDA

PEAKS: dict[str, float] = {}
"""Peak memory of a few training steps in MiB, by model and precision."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            needs_cuda = item.get_closest_marker("cuda") is not None
            if not ON_CUDA and (needs_cuda or DEVICE == "cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture
def peaks() -> dict[str, float]:
    return PEAKS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PEAKS:
        terminalreporter.section("peak memory of four training steps, MiB")
        for name, peak in sorted(PEAKS.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{peak:8.1f}  {name}")
