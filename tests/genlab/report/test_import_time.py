"""The report does not import slow libraries: torch, Lightning and wandb are imported by the functions that use them."""

import subprocess
import sys
from pathlib import Path

import genlab.report

MODULES = sorted(f"genlab.report.{path.stem}" for path in Path(genlab.report.__file__).parent.glob("[!_]*.py"))


def test_no_module_of_the_report_imports_a_slow_library() -> None:
    program = f"import sys, {', '.join(MODULES)}; print({{'torch', 'lightning', 'wandb'}} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "set()\n"
