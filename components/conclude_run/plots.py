"""The plots of the run report: matplotlib figures as inline SVG that follow the page's colours and fonts.

Each function returns an `<svg>` element, or None when there is nothing finite to draw. Text stays text, colours
become the page's CSS variables (so dark mode and print work), and every id carries the plot's name, so that
plots share a page without taking each other's clip paths. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from schemas.records import ConfusionMatrix, Difference, Stabilisation, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 6.1  # inches: 440 px, one column of the page, so that its 11 px text survives a phone's width
INK, MUTED, RULE, PAPER, REST = "#1c2126", "#5b646e", "#d5dadf", "#fffffe", "#a9b1ba"
# Okabe and Ito's colours, told apart by the colour-blind; blue leads, and stands for the candidate.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")
BETTER, WORSE = SERIES[0], SERIES[1]
MOST_BARS, MOST_INTERVALS, MOST_COUNTED_CLASSES = 30, 30, 20

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


class _Line(NamedTuple):
    """A series from 1 on. The leading one is thick; `pale` is drawn dashed beside it; `best` (from 0) gets a dot."""

    label: str
    values: Sequence[float]
    leading: bool
    pale: Sequence[float] = ()
    best: int | None = None


def label_bars(new: Mapping[str, int], rest: Mapping[str, int]) -> str | None:
    """Share of each label among the new spans beside the rest of the window; counts when there is only one of them."""
    series = [("new spans", new, SERIES[0]), ("rest of the window", rest, REST)]
    series = [(name, counts, colour) for name, counts, colour in series if sum(counts.values())]
    labels = most_frequent_labels(new, rest)
    if not series:
        return None
    crowded = len(labels) > 12 or max(map(len, labels)) > 4

    def paint(axes: Axes) -> None:
        width = 0.8 / len(series)
        for number, (name, counts, colour) in enumerate(series):
            total = sum(counts.values())
            scale = 100 / total if len(series) > 1 else 1
            places = [place - 0.4 + width * (number + 0.5) for place in range(len(labels))]
            heights = [counts.get(label, 0) * scale for label in labels]
            axes.bar(places, heights, width * 0.92, color=colour, label=f"{name} ({total:,} examples)")
        axes.set_xticks(range(len(labels)), [_short(label, 14) for label in labels], rotation=90 if crowded else 0)
        axes.set(xlabel="label", ylabel="share of examples (%)" if len(series) > 1 else "examples")
        axes.grid(axis="x", visible=False)

    alt = f"Bars by label: {' and '.join(name for name, _, _ in series)}"
    return _draw("labels", alt, 3.7 if crowded else 2.7, paint)


def draws_by_step(stabilisation: Stabilisation) -> str | None:
    """Training loss of every weight draw by step; the chosen draw is the thick line."""
    chosen = stabilisation.draws[stabilisation.chosen]
    draws = [_Line(f"seed {draw.seed}", draw.losses, draw is chosen) for draw in stabilisation.draws]
    return _lines("draws", "training step", "training loss (nats)", draws)


def losses_by_epoch(trainings: Sequence[Training], candidate: str) -> str | None:
    """Eval loss (solid) and training loss (dashed) of every instance by epoch; a dot marks the best epoch."""
    lines = []
    for training in trainings:
        solid, dashed = [e.eval_loss for e in training.epochs], [e.train_loss for e in training.epochs]
        name = training.instance.name
        lines.append(_Line(name, solid, name == candidate, dashed, training.best_epoch))
    return _lines("losses", "epoch", "loss (nats)", lines)


def accuracies_by_epoch(trainings: Sequence[Training], candidate: str) -> str | None:
    """Eval accuracy of every instance by epoch; a dot marks the best epoch, the one with the least eval loss."""
    lines = []
    for training in trainings:
        name, percent = training.instance.name, [100 * epoch.eval_accuracy for epoch in training.epochs]
        lines.append(_Line(name, percent, name == candidate, best=training.best_epoch))
    return _lines("accuracies", "epoch", "eval accuracy (%)", lines)


def forest(differences: Sequence[Difference], margin: float | None) -> str | None:
    """Differences on one metric with their intervals, by slice; right of the zero line the candidate is better."""
    drawn = shown_intervals(differences)
    if not drawn:
        return None
    metric = drawn[0].metric
    scale = 100 if metric == "accuracy" else 1
    unit = {"accuracy": "percentage points", "log_loss": "nats"}.get(metric, metric)

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1.2)
        if margin:
            axes.plot(
                [-margin * scale] * 2, [-0.5, 0.5], color=WORSE, lw=2, ls=(0, (2, 1))
            )  # the gate reads `overall` only
        for row, difference in enumerate(drawn):
            _interval(axes, row, difference, scale)
        axes.set_yticks(range(len(drawn)), [f"{_short(row.slice, 22)}  ({row.examples:,})" for row in drawn])
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlabel(f"worse  ←  {unit}  →  better")
        axes.grid(axis="y", visible=False)

    alt = f"Differences in {metric} by slice, candidate against champion, with intervals: {len(drawn)} rows"
    return _draw(f"forest-{re.sub('[^a-z0-9]+', '-', metric.lower())}", alt, 1.0 + 0.28 * len(drawn), paint)


def confusion(matrix: ConfusionMatrix, scale: float) -> str | None:
    """Heatmap of counts: right answers blue, mistakes orange by their share of the true class.

    `scale` is the share (0 to 1) that gets the full orange: the same for matrices that stand side by side.
    """
    classes = len(matrix.labels)
    if not any(sum(row) for row in matrix.counts):
        return None

    def paint(axes: Axes) -> None:
        for true, counts in enumerate(matrix.counts):
            for predicted, count in enumerate(counts):
                if count:
                    _cell(axes, true, predicted, count, count / sum(counts), scale, classes)
        names = [_short(label, 8) for label in matrix.labels]
        every = math.ceil(classes / MOST_COUNTED_CLASSES)
        crowded = max(len(name) for name in names) > 3
        axes.set_xticks(range(classes)[::every], names[::every], rotation=90 if crowded else 0)
        axes.set_yticks(range(classes)[::every], names[::every])
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted label", ylabel="true label")
        axes.tick_params(length=0)
        axes.grid(visible=False)

    alt = f"Confusion matrix of the {matrix.model}: {classes} labels, true by row, predicted by column"
    return _draw(f"confusion-{matrix.model}", alt, 5.6, paint)


def largest_confusion(matrices: Sequence[ConfusionMatrix]) -> float:
    """The largest share of a true class (0 to 1) that any of the models takes for another class."""
    rows = [(true, counts) for matrix in matrices for true, counts in enumerate(matrix.counts) if sum(counts)]
    shares = [count / sum(counts) for true, counts in rows for i, count in enumerate(counts) if count and i != true]
    return max(shares, default=1.0)


def frequent_confusions(matrix: ConfusionMatrix) -> list[tuple[str, str, int]]:
    """The three most frequent confusions of a model: true label, predicted label, count."""
    pairs = ((i, j) for i in range(len(matrix.labels)) for j in range(len(matrix.labels)) if i != j)
    found = [(matrix.labels[i], matrix.labels[j], matrix.counts[i][j]) for i, j in pairs if matrix.counts[i][j]]
    return sorted(found, key=lambda row: -row[2])[:3]


def shown_intervals(differences: Sequence[Difference]) -> list[Difference]:
    """The differences that a forest plot shows: finite ones; `overall` first; of too many, the worst."""
    finite = [row for row in differences if all(map(math.isfinite, (row.value, row.low, row.high)))]
    overall = [row for row in finite if row.slice == "overall"]
    slices = [row for row in finite if row.slice != "overall"]
    worst = sorted(slices, key=lambda row: row.value)[: MOST_INTERVALS - len(overall)]
    return overall + [row for row in slices if row in worst]


def most_frequent_labels(*counts: Mapping[str, int]) -> list[str]:
    """The labels that a bar chart shows, in order (numbers as numbers): of too many, the most frequent."""
    totals = {label: sum(count.get(label, 0) for count in counts) for count in counts for label in count}
    frequent = sorted(totals, key=lambda label: (-totals[label], label))[:MOST_BARS]
    return in_order(frequent)


def in_order(*labels: Iterable[str]) -> list[str]:
    """All the labels once, numbers as numbers, then text."""
    return sorted(
        {label for some in labels for label in some},
        key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label),
    )


def _lines(name: str, xlabel: str, ylabel: str, lines: Sequence[_Line]) -> str | None:
    if not any(math.isfinite(value) for line in lines for value in line.values):
        return None

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        others = iter(SERIES[1:] if len(lines) <= len(SERIES) else [REST] * len(lines))
        for line in lines:
            named = line.leading or len(lines) <= len(SERIES)  # more than the colours that can be told apart: grey
            _line(axes, line, SERIES[0] if line.leading else next(others, REST), named)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _draw(name, f"{ylabel} by {xlabel} of {', '.join(line.label for line in lines)}", 3.0, paint)


def _line(axes: Axes, line: _Line, colour: str, named: bool) -> None:
    places, values = range(1, len(line.values) + 1), _finite(line.values)
    label, width, order = _short(line.label, 20), 2.4 if line.leading else 1.4, 4 if line.leading else 3
    axes.plot(places, values, color=colour, lw=width, zorder=order, label=label if named else None)
    axes.plot(places[: len(line.pale)], _finite(line.pale), color=colour, lw=1, ls=(0, (3, 2)))
    if line.best is not None:
        axes.plot([line.best + 1], [values[line.best]], "o", color=colour, ms=7, mec=PAPER, mew=1.2, zorder=5)


def _interval(axes: Axes, row: int, difference: Difference, scale: float) -> None:
    clear = difference.low > 0 or difference.high < 0
    colour = (BETTER if difference.low > 0 else WORSE) if clear else MUTED
    heavy = 1.5 if difference.slice == "overall" else 1.0
    axes.plot([difference.low * scale, difference.high * scale], [row, row], color=colour, lw=1.5 * heavy, zorder=3)
    face = colour if clear else PAPER
    marker = "D" if difference.high < 0 else "o"
    axes.plot([difference.value * scale], [row], marker, color=colour, ms=6 * heavy, mfc=face, mew=1.3, zorder=4)


def _cell(axes: Axes, true: int, predicted: int, count: int, share: float, scale: float, classes: int) -> None:
    from matplotlib.patches import Rectangle

    right = true == predicted
    opacity = 0.08 + 0.42 * share if right else 0.15 + 0.6 * min(1.0, share / scale)
    corner = (predicted - 0.48, true - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, color=BETTER if right else WORSE, alpha=opacity, lw=0))
    if classes <= MOST_COUNTED_CLASSES:
        size = 11.5 if classes <= 12 else 8
        axes.text(predicted, true, str(count), ha="center", va="center_baseline", fontsize=size, color=INK)


def _finite(values: Sequence[float]) -> list[float]:
    """The values with a gap in place of each one that cannot be drawn."""
    return [value if math.isfinite(value) else math.nan for value in values]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _draw(name: str, alt: str, height: float, paint: Callable[[Axes], None]) -> str:
    """Paints one figure (height in inches) without touching matplotlib's global state and returns its SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    # A label may hold characters that matplotlib's own font lacks; the browser's fonts draw them.
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        paint(axes)
        if axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.4)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return _inline(out.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """Turns a whole SVG document into an element of the page: no namespaces, own ids, the page's colours and fonts."""
    root = ElementTree.fromstring(_NOT_XML.sub(" ", svg))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _adapt(key, value, name) for key, value in element.attrib.items()}
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
