"""Package of the product; also what Apache Beam ships to remote workers."""

from setuptools import find_packages, setup

setup(
    name="perennial",
    version="0.1.0",
    description="Continuous training: from landed labels to a served model.",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["schemas*", "perennial*", "components*", "pipelines*", "serving*"]),
    package_data={"": ["*.html", "*.json", "*.yaml", "*.css"]},
    entry_points={"console_scripts": ["perennial = perennial.cli.main:main"]},
)
