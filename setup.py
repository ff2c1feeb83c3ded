"""Builds the package that Apache Beam ships to remote workers.

Everything about it is in pyproject.toml.
"""

from setuptools import setup

setup()
