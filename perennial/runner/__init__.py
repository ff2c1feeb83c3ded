"""The runner: a compiled pipeline or one of its tasks on this machine, and the warm process."""
