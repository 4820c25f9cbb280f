"""ROC and reliability curves as PNG pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from model.evaluation.evaluation import OVERALL, Name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from model.evaluation.evaluation import Evaluation

_INCHES = (5.2, 5.0)
_DOTS = 110


def roc_png(evaluation: Evaluation) -> bytes:
    """Draw the ROC curves, one for each source with both classes and one for all images."""
    figure, axes = _square("false positive rate (1 - specificity)", "sensitivity")
    for curve in evaluation.roc:
        auc = evaluation.figure(Name.AUC, curve.source)
        label = _literal(curve.source) + (f": AUC {auc.value:.3f}" if auc else "")
        # Steps: between two thresholds nothing was measured.
        axes.plot(curve.false_positive_rate, curve.sensitivity, label=label, **_style(curve.source))
    points = [
        (1 - specificity.value, sensitivity.value)
        for curve in evaluation.roc
        if (specificity := evaluation.figure(Name.SPECIFICITY, curve.source))
        and (sensitivity := evaluation.figure(Name.SENSITIVITY, curve.source))
    ]
    if points:
        axes.plot(*zip(*points, strict=True), "k.", markersize=9, label="operating point")
    return _png(figure, axes)


def reliability_png(evaluation: Evaluation) -> bytes:
    """Draw how often images of a probability have the disease; a larger dot is more images."""
    figure, axes = _square("calibrated probability", "share with COVID-19")
    for curve in evaluation.reliability:
        error = evaluation.figure(Name.CALIBRATION_ERROR, curve.source)
        label = _literal(curve.source) + (f": ECE {error.value:.3f}" if error else "")
        predicted = [each.predicted for each in curve.bins]
        observed = [each.observed for each in curve.bins]
        (line,) = axes.plot(predicted, observed, label=label, **_style(curve.source))
        most = max(each.count for each in curve.bins)
        sizes = [12 + 120 * each.count / most for each in curve.bins]
        axes.scatter(predicted, observed, sizes, color=line.get_color(), alpha=0.6)
    return _png(figure, axes)


def _square(below: str, beside: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":", linewidth=1)
    axes.set(xlabel=below, ylabel=beside, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, color="0.92")
    return figure, axes


def _style(source: str) -> dict[str, Any]:
    return {"color": "black", "linestyle": "--"} if source == OVERALL else {"linewidth": 2}


def _literal(text: str) -> str:
    """Keep matplotlib from reading a name as a formula, or hiding it for its underscore."""
    return " " + text.replace("$", r"\$") if text.startswith("_") else text.replace("$", r"\$")


def _png(figure: Figure, axes: Axes) -> bytes:
    axes.legend(loc="lower right", fontsize=8, framealpha=0.9)
    data = io.BytesIO()
    # Without the program's version in it, the same curves are the same file.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
