"""Apache Beam pipelines with the options of the project's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    # The direct runner ends in this runner, but looks first whether another could take the pipeline, for which it
    # serialises all of it once more: an eighth of the time of a small pipeline.
    return apache_beam.Pipeline(runner=FnApiRunner() if local and in_memory else None, options=parsed)
