"""How property tests draw: the same examples in every run, so that a red build is the fault of a change."""

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
# Other examples each time, and more: `make test ARGS="--hypothesis-profile=hunt"`.
settings.register_profile("hunt", max_examples=1000)
settings.load_profile("steady")
