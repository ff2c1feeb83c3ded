"""Apache Beam pipelines with the options of the project's settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam import Pipeline


def make_pipeline(options: Sequence[str]) -> Pipeline:
    """A Beam pipeline to be used as a context manager; it runs when the context ends."""
    import apache_beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    # The options are the settings' alone: without a list, Beam would read this process's command line.
    parsed = PipelineOptions(list(options))
    local = parsed.view_as(StandardOptions).runner in (None, "DirectRunner")
    in_memory = parsed.view_as(DirectOptions).direct_running_mode == "in_memory"
    _spare_work()
    # The direct runner ends in this runner, but looks first whether another could take the pipeline, for which it
    # serialises all of it once more: an eighth of the time of a small pipeline.
    return apache_beam.Pipeline(runner=FnApiRunner() if local and in_memory else None, options=parsed)


def _spare_work() -> None:
    """Has Beam leave out what costs a small pipeline in this process more than its work."""
    from apache_beam import pipeline
    from apache_beam.runners.worker import statecache
    from apache_beam.utils import interactive_utils

    # Whether this is a notebook is asked for every transform, by importing IPython.
    pipeline.is_in_ipython = interactive_utils.is_in_ipython = _is_in_ipython
    # What is cached of a side input is weighed by a walk through it and past the variables of all modules, although it
    # is in this process's memory in any case.
    statecache.get_deep_size = _weigh


def _is_in_ipython() -> bool:
    """Tells whether this process is a notebook's: who has not imported IPython is not."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _weigh(*values: Any) -> int:
    """Gives the bytes of some values, without those of what they hold."""
    return sum(map(sys.getsizeof, values))
