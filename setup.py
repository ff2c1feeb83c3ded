"""Package of the product; also what Apache Beam ships to remote workers.

It names no dependencies: they need the overrides of requirements.lock, which a package cannot state.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

initial = Path(__file__).with_name("perennial") / "__init__.py"
version = re.search(r'^__version__ = "(.+)"$', initial.read_text(encoding="utf-8"), re.MULTILINE)
assert version, f"{initial} must define __version__"

setup(
    name="perennial",
    version=version[1],
    description="Continuous training: from landed labels to a served model.",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["schemas*", "perennial*", "components*", "pipelines*", "serving*"]),
    package_data={"": [f"**/*.{ending}" for ending in ("html", "css", "js", "svg", "json", "yaml", "pbtxt", "txt")]},
    entry_points={"console_scripts": ["perennial = perennial.cli.main:main"]},
)
