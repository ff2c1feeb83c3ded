"""Imports everything when it is imported: for `multiprocessing`'s own fork server, which takes names of modules."""

from perennial.processes import die_with_parent
from perennial.runner.warm_imports import Imports

die_with_parent()  # whoever is killed must not leave this importing
imports = Imports()
while not imports.finished:
    imports.step(())
