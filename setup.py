"""Packages of the distribution: those that Python imports, and the folders configs and sweeps as data of genlab."""

from setuptools import find_packages, setup

DATA = {"genlab.configs": "configs", "genlab.sweeps": "sweeps"}

setup(
    packages=[*find_packages(include=["genlab*", "lit_models*", "datamodules*"]), *DATA],
    package_dir=DATA,
    package_data={
        "genlab.configs": ["*.yaml"],
        "genlab.sweeps": ["*.yaml"],
        "genlab.report": ["page/*"],
        "genlab.report.compare": ["page/*"],
    },
)
