"""Lets Beam build a worker package with ``--setup_file ./setup.py``; all facts are in pyproject.toml."""

from setuptools import setup

setup()
