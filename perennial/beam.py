"""Apache Beam pipelines with the options of the project's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam import Pipeline


def make_pipeline(options: Sequence[str]) -> Pipeline:
    """A Beam pipeline to be used as a context manager; it runs when the context ends."""
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    # The options are the settings' alone: without a list, Beam would read this process's command line.
    return apache_beam.Pipeline(options=PipelineOptions(list(options)))
