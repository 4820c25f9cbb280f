"""The report of an evaluation: one HTML file with its pictures inside, and nothing from outside."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from model.evaluation.evaluation import OVERALL, TITLES, ChosenHere, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from model.evaluation.evaluation import DecisionFacts, Evaluation, Figure
    from model.evaluation.series import SeriesEvaluation, SliceAuc

BANNER = (
    "Research, unverified. What this network says is for review by a radiologist; it is no medical "
    "device and must not decide on anybody's care."
)
_BRACKETS = (
    "Brackets: 95 % bootstrap interval over patients, 1,000 repeats; none with fewer than six "
    "patients. A dash stands where these data give no figure, and says why."
)
_CHOSEN_HERE = {
    ChosenHere.YES: "Yes: these data also chose calibration and operating point, so the figures "
    "flatter.",
    ChosenHere.NO: "No.",
    ChosenHere.UNKNOWN: "Not known: the version does not say that these data did, and does not say "
    "that they did not.",
}
_BASELINES: dict[bool | None, str] = {
    True: "<p>The network's probability orders the slices better than lung area and place do.</p>",
    False: '<p class="flag">The network\'s probability orders the slices no better than lung area '
    "or place do: it has not shown that it found anything.</p>",
}
_SPLITS = {
    "train": "train (these images trained the network: the figures say nothing of others)",
    "all": "all (with the images that trained the network: the figures say nothing of others)",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of {title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; margin: 2rem auto; padding: 0 1rem;
 max-width: 70rem }}
h1 {{ font-size: 1.6rem; margin: .4rem 0; overflow-wrap: anywhere }}
h2 {{ margin-top: 2.2rem; border-bottom: 1px solid #ccc; font-size: 1.2rem }}
.banner {{ background: #8b1a1a; color: #fff; padding: .7rem 1rem; font-weight: 600 }}
.flag {{ background: #fff4d6; border-left: 4px solid #c98a00; padding: .5rem .8rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin: .6rem 0 }}
th, td {{ text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #e2e2e2;
 vertical-align: top }}
td.n {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
td.why {{ color: #6b6b6b; font-size: .85em }}
.facts th {{ width: 13rem; font-weight: 500; color: #555 }}
.facts td {{ overflow-wrap: anywhere }}
small {{ color: #6b6b6b; display: block }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem }}
figure {{ margin: 0; max-width: 33rem }}
figure img {{ max-width: 100%; display: block }}
figcaption {{ font-size: .85em; overflow-wrap: anywhere }}
.drawn {{ color: #1f7fb8; font-weight: 600 }} .said {{ color: #b84f00; font-weight: 600 }}
</style>
</head>
<body>
<p class="banner">{banner}</p>
{body}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG and what stands below it."""

    png: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Everything the report shows."""

    curves: tuple[Picture, ...] = ()
    worst_lesions: tuple[Picture, ...] = ()
    worst_probabilities: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What the title page says beside the evaluation itself.

    Attributes
    ----------
    caution
        How far the version can be trusted, in its own words.
    pictures
        Curves and worst cases.
    """

    caution: str = ""
    pictures: Pictures = field(default_factory=Pictures)


def report_html(evaluation: Evaluation, facts: ReportFacts) -> str:
    """Return the report. Every text that comes from data is escaped.

    Parameters
    ----------
    evaluation
        What was measured.
    facts
        What else the report shows.
    """
    pictures = facts.pictures
    parts = [
        f"<h1>Evaluation of {escape(evaluation.model.title)}</h1>",
        _facts(evaluation, facts.caution),
        *(_images_sections(evaluation) if evaluation.data.images else ()),
        _gallery("ROC and calibration", "", pictures.curves),
        _gallery("Lowest Dice", _OUTLINES, pictures.worst_lesions),
        _gallery(
            "Most wrong probabilities",
            "Images on the wrong side of the operating point. " + _OUTLINES,
            pictures.worst_probabilities,
        ),
        *(_series_section(series) for series in evaluation.series),
    ]
    return _PAGE.format(
        title=escape(evaluation.model.title), banner=escape(BANNER), body="\n".join(parts)
    )


_OUTLINES = (
    'Left the network\'s input, right with outlines: <span class="drawn">lesions as drawn</span>, '
    '<span class="said">lesions as predicted</span>.'
)


def _facts(evaluation: Evaluation, caution: str) -> str:
    model, data, decision = evaluation.model, evaluation.data, evaluation.decision
    patients = f"{data.patients}"
    if data.images_without_patient:
        patients = (
            f"{data.patients}, of which some are clusters of near duplicates: the patient of "
            f"{data.images_without_patient} images is unknown, and figures with them are "
            "slice-level"
        )
    images = (
        ("Data", data.manifest or "samples without a manifest"),
        ("SHA-256 of the manifest", data.sha256),
        ("Split", _SPLITS.get(data.split, data.split)),
        ("Images", str(data.images)),
        ("Patients", patients),
        ("Seen before", _seen(evaluation)),
        ("Did these data choose the operating point?", _CHOSEN_HERE[decision.chosen_here]),
    )
    rows = [
        ("Model", model.title),
        ("SHA-256 of its weights", model.sha256),
        ("Tasks, input", f"{', '.join(model.tasks)}; {model.input_size} x {model.input_size}"),
        ("Licence", model.licence or "not stated"),
        ("Caution", caution),
        *(images if data.images else (("Data", "whole series only, no single images"),)),
        ("Operating point of a slice", f"{decision.operating_point:.4f}"),
        ("Calibration", _calibration(decision)),
        ("Chosen on", decision.chosen_on),
        ("Measured by", f"lungwatch {evaluation.code_version}"),
    ]
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows if text
    )
    return f'<table class="facts">{lines}</table>'


def _seen(evaluation: Evaluation) -> str:
    seen, images = evaluation.data.images_seen, evaluation.data.images
    if seen is None:
        return "Not known: the version does not say what it was made from."
    if not seen:
        return "None of these images, and no other image of their patients, made this version."
    return (
        f"{seen} of {images} images, or others of their patients, trained this version or chose "
        "its thresholds: figures with them flatter."
    )


def _images_sections(evaluation: Evaluation) -> tuple[str, ...]:
    return (
        "<h2>Data</h2>",
        _data_table(evaluation),
        "<h2>Figures</h2>",
        _reading_note(evaluation),
        _figures_table(evaluation),
    )


def _calibration(decision: DecisionFacts) -> str:
    parameters = f"slope {decision.slope:.4f}, intercept {decision.intercept:.4f}"
    return f"{decision.calibration}: {parameters}"


def _data_table(evaluation: Evaluation) -> str:
    header = ("source", "COVID-19", "other", "class unknown", "lesions drawn", "patients")
    rows = [
        (
            escape(each.source),
            *map(str, (each.covid, each.other, each.unknown, each.masks)),
            f"{each.patients}{'' if each.patients_known else ' (clusters)'}",
        )
        for each in evaluation.data.sources
    ]
    return _table(header, rows)


def _reading_note(evaluation: Evaluation) -> str:
    lines = [_BRACKETS]
    if len(evaluation.data.sources) > 1:
        lines.append(
            "Overall figures mix sources: where a class comes from one source only, telling the "
            "sources apart looks like telling the disease. AUC within sources compares only images "
            "of one source."
        )
    return f'<p class="flag">{escape(" ".join(lines))}</p>'


def _figures_table(evaluation: Evaluation) -> str:
    columns = [OVERALL, *evaluation.sources] if len(evaluation.sources) > 1 else [OVERALL]
    absent = {(each.name, each.source): each.reason for each in evaluation.absent}
    rows = []
    for name, title in TITLES.items():
        cells = []
        for source in columns:
            figure = evaluation.figure(name, source)
            if figure is not None:
                cells.append(f'<td class="n">{_cell(figure)}</td>')
            else:
                cells.append(
                    f'<td class="why">&ndash; {escape(absent.get((name, source), ""))}</td>'
                )
        rows.append(f"<tr><th>{escape(title)}</th>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<div class="wide"><table><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'


def _cell(figure: Figure) -> str:
    low_high = "no interval"
    if figure.interval is not None:
        low_high = f"[{figure.interval[0]:.3f}, {figure.interval[1]:.3f}]"
    level = ", slice-level" if figure.level is Level.SLICE else ""
    return f"<b>{figure.value:.3f}</b> {low_high}<small>n = {figure.count}{level}</small>"


def _gallery(title: str, note: str, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    shown = "".join(
        f'<figure><img alt="{escape(each.caption)}" '
        f'src="data:image/png;base64,{b64encode(each.png).decode()}">'
        f"<figcaption>{escape(each.caption)}</figcaption></figure>"
        for each in pictures
    )
    return f'<h2>{escape(title)}</h2><p>{note}</p><div class="pictures">{shown}</div>'


def _series_section(series: SeriesEvaluation) -> str:
    said = (
        f"Probability of the study {series.probability:.3f}, operating point "
        f"{series.operating_point:.4f}: {'positive' if series.positive else 'negative'}. "
        f"{series.screened_slices} of {series.slices} slices show lung; lung "
        f"{series.lung_ml:.0f} mL, lesions {series.lesion_ml:.1f} mL "
        f"({series.involvement_percent:.2f} %)."
    )
    tables = "".join(
        f"<h3>{title}</h3>{_slice_table(table)}"
        for title, table in (
            ("All slices", series.all_slices),
            ("Slices with lung", series.with_lung),
        )
        if table
    )
    verdict = _BASELINES.get(series.above_baselines(), "")
    return f"<h2>Series {escape(series.name)}</h2><p>{escape(said)}</p>{verdict}{tables}"


def _slice_table(table: Iterable[SliceAuc]) -> str:
    rows = [
        (
            escape(row.score),
            f"{row.infected} of {row.slices}",
            f"{row.auc:.3f}",
            "" if row.interval is None else f"[{row.interval[0]:.3f}, {row.interval[1]:.3f}]",
        )
        for row in table
    ]
    return _table(("score", "infected", "AUC", "95 % interval"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows whose cells are escaped already."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{heads}</tr>{lines}</table></div>'
