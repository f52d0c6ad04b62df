"""The examples in the docstrings of public classes run, and every public class has one."""

import doctest
import inspect

import pytest

import datamodules
import genlab.metrics
import lit_models
from genlab.sweep import engine

PUBLIC = {
    "lit_models": [getattr(lit_models, name) for name in lit_models.__all__],
    "datamodules": [getattr(datamodules, name) for name in datamodules.__all__],
    "metrics": [getattr(genlab.metrics, name) for name in genlab.metrics.__all__],
    "engine": [engine.Engine],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_examples_of_public_classes_run(package: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    missing = []
    for item in PUBLIC[package]:
        if not inspect.isclass(item) or issubclass(item, Exception | tuple):
            continue
        tests = [test for test in finder.find(item, item.__name__) if test.examples]
        if not tests:
            missing.append(item.__name__)
        for test in tests:
            runner.run(test)
    assert not missing, f"public classes without an example: {', '.join(missing)}"
    assert not runner.failures
