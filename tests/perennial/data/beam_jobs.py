"""What runs in a process of its own for the tests of Beam pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FOUND: list[tuple[str, str, int]] = []
OPTIONS = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


def write_down(key: str, value: str, number: int) -> None:
    """Keeps what a function found: Beam works on copies of functions, but not of modules."""
    _FOUND.append((key, value, number))


def number_by_key(values: list[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Numbers the values of each key by a function with a state, in two stages of one pipeline."""
    import apache_beam as beam
    from apache_beam.coders import VarIntCoder
    from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

    from perennial.data.beam import make_pipeline

    class Number(beam.DoFn):
        COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

        def __init__(self, first: int) -> None:
            self.first = first

        def process(self, item: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Any:  # noqa: B008
            key, value = item
            number = count.read() or self.first
            count.write(number + 1)
            yield key, (value, number)

    class Add(beam.DoFn):
        def process(self, item: Any, add: int = 0) -> Any:
            key, (value, number) = item
            write_down(key, value, number + add)
            yield item

    with make_pipeline(OPTIONS) as pipeline:
        numbered = pipeline | beam.Create(values) | beam.ParDo(Number(1))
        _ = numbered | "Add" >> beam.ParDo(Add(), 100)
        _ = numbered | "Add nothing" >> beam.ParDo(Add())
    return sorted(_FOUND)


def write_bundles(folder: Path) -> tuple[list[tuple[str, bytes]], list[bytes]]:
    """Writes a bundle that fails, the same again, and an empty one; gives what was told and is left."""
    from perennial.data.file_sink import line_sink
    from perennial.data.worker_files import Handover

    writer = line_sink(Handover(str(folder)), "lines").writer
    told = []
    for lines, succeeds in ((["again"], False), (["again"], True), ([], True)):
        writer.start_bundle()
        for line in lines:
            writer.process(line)
        if succeeds:
            told += [each.value for each in writer.finish_bundle()]
    writer.teardown()
    contents = [(each.output, (folder / each.name).read_bytes()) for each in told]
    return contents, [path.read_bytes() for path in folder.iterdir()]


def change_options() -> tuple[Any, ...]:
    """What views of options say when one of them is changed."""
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

    from perennial.data.beam import make_pipeline

    make_pipeline(OPTIONS)
    options, others = PipelineOptions(OPTIONS), PipelineOptions(OPTIONS)
    options.view_as(DirectOptions).view_as(StandardOptions).streaming = True
    streaming = [each.view_as(StandardOptions).streaming for each in (options, others)]
    return (
        options.view_as(DirectOptions).direct_running_mode,
        streaming,
        options.get_all_options()["streaming"],
    )
