"""The runner: a compiled pipeline on this machine, and the warm process."""
