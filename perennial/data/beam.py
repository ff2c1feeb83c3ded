"""Apache Beam pipelines with the options of the project's settings."""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from perennial.data.beam_options import LOCAL_RUNNER
from perennial.errors import WorkersError

if TYPE_CHECKING:
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

_LONGEST = 500  # characters of a runner's message


def make_pipeline(options: Sequence[str]) -> Pipeline:
    """Makes a Beam pipeline to use as a context manager; it runs when the context ends."""
    import apache_beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    # The options are the settings' alone: without a list, Beam would read this process's command
    # line.
    parsed = PipelineOptions(list(options))
    runner = parsed.view_as(StandardOptions).runner
    if runner not in (None, LOCAL_RUNNER):
        return _make_sent_pipeline(parsed, runner)
    if parsed.view_as(DirectOptions).direct_running_mode != "in_memory":
        return apache_beam.Pipeline(options=parsed)
    _spare_work()
    # The direct runner ends in this runner, but looks first whether another could take the
    # pipeline, for which it serialises all of it once more: an eighth of the time of a small
    # pipeline.
    return apache_beam.Pipeline(runner=FnApiRunner(), options=parsed)


def _make_sent_pipeline(options: PipelineOptions, runner: str) -> Pipeline:
    """Makes a pipeline that is sent to a runner, which tells of an error by its text alone."""
    import apache_beam

    class SentPipeline(apache_beam.Pipeline):
        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if error is not None:
                super().__exit__(kind, error, trace)
                return
            try:
                super().__exit__(kind, error, trace)
            except Exception as failure:
                text = str(failure).strip() or type(failure).__name__
                raise WorkersError(
                    f"Beam's {runner}",
                    "must run the pipeline to its end",
                    text.splitlines()[-1][:_LONGEST],
                    "Correct what it names, or look into the runner's log, then run again.",
                ) from failure

    return SentPipeline(options=options)


def _spare_work() -> None:
    """Makes Beam skip what costs a small pipeline in this process more than its work."""
    from apache_beam import pipeline
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.worker import statecache
    from apache_beam.transforms import core
    from apache_beam.utils import interactive_utils

    # Whether this is a notebook is asked for every transform, by importing IPython.
    pipeline.is_in_ipython = interactive_utils.is_in_ipython = _is_in_ipython
    # What is cached of a side input is weighed by a walk through it and past the variables of all
    # modules, although it is in this process's memory in any case.
    statecache.get_deep_size = _weigh
    # A pipeline's options are asked for again and again, each time by making a command-line parser
    # for them, and so are the arguments of every method of every function that Beam calls: together
    # half of the time of a small pipeline.
    if not hasattr(PipelineOptions.view_as, "__wrapped__"):
        setattr(PipelineOptions, "view_as", _kept_view(PipelineOptions.view_as))  # noqa: B010 (a method, for mypy)
        kept: Any = _kept_arguments(core.get_function_args_defaults)
        core.get_function_args_defaults = kept


def _is_in_ipython() -> bool:
    """Tells whether this process is a notebook's, without importing IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _weigh(*values: Any) -> int:
    """Adds up the bytes of some values, without those of what they hold."""
    return sum(map(sys.getsizeof, values))


def _kept_view(view_as: Callable[[Any, type], Any]) -> Callable[[Any, type], Any]:
    """Makes each view of some options once; all views share the values of the options anyway."""

    @functools.wraps(view_as)
    def view_once(options: Any, kind: type) -> Any:
        views = options.__dict__.setdefault("_perennial_views", {})
        if kind not in views:
            view = views[kind] = view_as(options, kind)
            view.__dict__["_perennial_views"] = views
        return views[kind]

    return view_once


def _kept_arguments(inspect: Callable[[Any], tuple[list[str], list[Any]]]) -> Callable[[Any], Any]:
    """Inspects each function that is a method once; its bound object makes no difference."""
    known: weakref.WeakKeyDictionary[types.FunctionType, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(inspect)
    def inspect_once(function: Any) -> tuple[list[str], list[Any]]:
        plain = function.__func__ if type(function) is types.MethodType else None
        if type(plain) is not types.FunctionType:
            return inspect(function)
        if plain not in known:
            known[plain] = inspect(function)
        arguments, defaults = known[plain]
        return [*arguments], [*defaults]

    return inspect_once
