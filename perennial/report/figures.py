"""Drawing for the run report: figures as inline SVG in the page's colours and fonts.

Text stays text, colours become the page's CSS variables (so dark mode and print work), and every
id carries the plot's name, so that plots share a page without taking each other's clip paths. The
same input gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = (
    6.1  # inches: 440 px, one column of the page, so that its 11 px text survives a phone's width
)
INK, MUTED, RULE, PAPER, REST = "#1c2126", "#5b646e", "#d5dadf", "#fffffe", "#a9b1ba"
# Okabe and Ito's colours, which the colour-blind can distinguish; blue is the candidate.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
BETTER, WORSE = SERIES[0], SERIES[1]
ROW, AROUND = 0.28, 1.0  # inches: one row of a plot with rows, and what stands around them
_MOST_LABELS = 30  # of a bar chart
_WIDE = 1000  # largest value over the least: more than three decades

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", REST: "rest"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "perennial",
    "text.parse_math": False,  # a label such as "$5$" is a label, not a formula
    **dict.fromkeys(["font.size", "axes.labelsize"], 11.5),
    **dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 11),
    **dict.fromkeys(["axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], MUTED),
    **dict.fromkeys(["text.color", "xtick.labelcolor", "ytick.labelcolor"], INK),
    **dict.fromkeys(["axes.facecolor", "figure.facecolor", "savefig.facecolor"], "none"),
    **dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False),
    **dict.fromkeys(["axes.grid", "axes.axisbelow"], True),
    **{"grid.color": RULE, "grid.linewidth": 0.7},
}


class Line(NamedTuple):
    """A series, drawn from 1 on: thick where it is `leading`.

    `pale` is drawn dashed beside it, and `best` (counted from 0) gets a dot.
    """

    label: str
    values: Sequence[float]
    leading: bool
    pale: Sequence[float] = ()
    best: int | None = None


def draw_lines(name: str, xlabel: str, ylabel: str, lines: Sequence[Line]) -> str | None:
    """Draws series by step or epoch, on a logarithmic axis where their range is wide.

    Gives None where nothing in them is finite.
    """
    values = [
        value for line in lines for value in (*line.values, *line.pale) if math.isfinite(value)
    ]
    if not any(math.isfinite(value) for line in lines for value in line.values):
        return None
    wide = spans_orders(values)

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        others = iter(SERIES[1:] if len(lines) <= len(SERIES) else [REST] * len(lines))
        for line in lines:
            named = line.leading or len(lines) <= len(SERIES)  # grey: there are too few colours
            _line(axes, line, SERIES[0] if line.leading else next(others, REST), named)
        axes.set(
            xlabel=xlabel,
            ylabel=f"{ylabel}, log scale" if wide else ylabel,
            yscale="log" if wide else "linear",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw(
        name, f"{ylabel} by {xlabel} of {', '.join(line.label for line in lines)}", 3.0, paint
    )


def most_frequent_labels(*counts: Mapping[str, float]) -> list[str]:
    """Gives the labels that a bar chart shows, in order: of too many, the most frequent."""
    totals = {
        label: sum(count.get(label, 0) for count in counts) for count in counts for label in count
    }
    return in_order(sorted(totals, key=lambda label: (-totals[label], label))[:_MOST_LABELS])


def in_order(*labels: Iterable[str]) -> list[str]:
    """Gives all labels once: numbers by their size, then text."""
    return sorted(
        {label for some in labels for label in some},
        key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label),
    )


def _line(axes: Axes, line: Line, colour: str, named: bool) -> None:
    places, values = range(1, len(line.values) + 1), finite_or_gap(line.values)
    label, width, order = (
        shorten(line.label, 20),
        2.4 if line.leading else 1.4,
        4 if line.leading else 3,
    )
    marker = "o" if len(values) == 1 else None
    axes.plot(
        places,
        values,
        marker=marker,
        color=colour,
        lw=width,
        zorder=order,
        label=label if named else None,
    )
    axes.plot(
        places[: len(line.pale)], finite_or_gap(line.pale), color=colour, lw=1, ls=(0, (3, 2))
    )
    if line.best is not None:
        axes.plot(
            [line.best + 1],
            [values[line.best]],
            "o",
            color=colour,
            ms=7,
            mec=PAPER,
            mew=1.2,
            zorder=5,
        )


def finite_or_gap(values: Sequence[float]) -> list[float]:
    """Puts a gap in place of each value that cannot be drawn."""
    return [value if math.isfinite(value) else math.nan for value in values]


def spans_orders(values: Sequence[float]) -> bool:
    """Tells whether a linear axis would show only the largest of these positive values."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE


def shorten(text: str, most: int) -> str:
    """Cuts the end of a text that has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def shorten_middle(text: str, most: int) -> str:
    """Cuts the middle of a text of more than `most` characters: `label=pneu…Harbour clinic`."""
    end = most // 2
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"


def draw(name: str, alt: str, height: float, paint: Callable[[Axes], None]) -> str:
    """Draws one figure as SVG, without touching matplotlib's global state.

    Args:
        name: Makes the ids in it unique on the page.
        alt: Says what it shows, for those who cannot see it.
        height: In inches.
        paint: Draws into its axes.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    out, layout = io.StringIO(), ConstrainedLayoutEngine()
    # A label may hold characters that matplotlib's own font lacks; the browser's fonts draw them.
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), dpi=FigureCanvasSVG.fixed_dpi, layout=layout)
        canvas: Any = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        paint(axes)
        labels = axes.get_legend_handles_labels()[1]
        if labels:
            columns = 4 if sum(map(len, labels)) < 40 else 3
            figure.legend(
                loc="outside upper left", ncols=columns, handlelength=1.4, columnspacing=1.4
            )
        # `savefig` would draw everything twice, to lay it out.
        layout.execute(figure)
        figure.set_layout_engine("none")
        canvas.print_svg(out, metadata={"Date": None})
    return _inline(out.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """Turns an SVG document into an element of the page: own ids, the page's colours and fonts."""
    root = ElementTree.fromstring(_NOT_XML.sub(" ", svg))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _adapt(key, value, name)
            for key, value in element.attrib.items()
        }
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(attribute: str, value: str, name: str) -> str:
    if attribute == "id":
        return f"{name}-{value}"
    value = re.sub(r"^#|(?<=url\()#", f"#{name}-", value)
    if attribute == "style":
        value = re.sub(r"font-family:[^;]*; ?", "", value)  # the page's font, not matplotlib's
        value = re.sub(r"#[0-9a-f]{6}", lambda hit: f"var(--{_VARIABLES[hit[0]]}, {hit[0]})", value)
    return value
