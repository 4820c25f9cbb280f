"""One study on the terminal: state, series decisions, result, deliveries and history."""

from __future__ import annotations

from typing import Any

from worker.cli.output import harmless, print_table, stdout
from worker.cli.review import print_reviews
from worker.explanations import explain

_EVENT_FACTS_SHOWN_ELSEWHERE = frozenset({"at", "event", "before"})


def print_study(document: dict[str, Any]) -> None:
    """Print what `worker.screening.result.study_document` tells of a study."""
    console = stdout()
    lines = [
        f"Study {document['id']}, {document['study_instance_uid']}",
        f"{document['state']}: {document['reason_in_words']} ({document['reason']})",
        document["detail"],
        _counted(document, "duplicate_count", "Instances that came more than once"),
        _counted(document, "conflict_count", "Other objects under the UID of one that was kept"),
        f"Images and results were removed here on {document['cleaned_at'][:10]}"
        if document["cleaned_at"]
        else "",
        f"What to do: {document['remedy']}" if document["remedy"] else "",
        f"Patient: {document['patient_name']} ({document['patient_id']})"
        if "patient_name" in document
        else "",
    ]
    text = harmless("\n".join(line for line in lines if line))
    console.print(text, markup=False, highlight=False)
    if "covid_probability" in document:
        print_result(document)
    if document["reviews"]:
        print_reviews(document["reviews"])
    print_decisions(document)
    _print_deliveries(document["deliveries"])
    _print_events(document["events"])


def _counted(document: dict[str, Any], key: str, words: str) -> str:
    return f"{words}: {document[key]}" if document[key] else ""


def print_result(document: dict[str, Any]) -> None:
    """Print the figures of a result (`worker.screening.result.result_document`)."""
    side = "at or above" if document["positive"] else "below"
    probability, threshold = document["covid_probability"], document["operating_point"]
    involved = document["lung_involvement_percent"]
    model = f"{document['model_name']} {document['model_version']}"
    lesions = sum(lesion["component_count"] for lesion in document["lesions"])
    facts = [
        ("notice", document["notice"]),
        ("COVID-19", f"probability {probability:.3f}, {side} the operating point {threshold:.3f}"),
        ("lesions", f"{lesions}, {document['total_lesion_volume_ml']:.1f} mL"),
        ("lung", f"{document['lung_volume_ml']:.0f} mL, {involved:.1f} % of it involved"),
        ("slices screened", len(document["screened_slices"])),
        ("model", f"{model} (sha256 {document['model_sha256'][:12]})"),
        ("timings", ", ".join(f"{k} {v:.1f} s" for k, v in document["timings"].items())),
    ]
    print_table("Result, unverified", ("", ""), facts)
    rows = [
        (
            lesion["segment_number"],
            f"{lesion['volume_ml']:.2f} mL",
            lesion["laterality"],
            f"{lesion['maximum_diameter_mm']:.0f} mm",
            f"{lesion['mean_hu']:.0f} HU",
            f"{lesion['slices'][0]} to {lesion['slices'][-1]}",
            lesion["component_count"],
        )
        for lesion in document["lesions"]
    ]
    if rows:
        columns = ("segment", "volume", "side", "diameter", "mean", "slices", "lesions")
        print_table("Segments, unverified", columns, rows)


def print_decisions(document: dict[str, Any]) -> None:
    """Print what was decided about each series, and each file that is no usable instance."""
    # Free text of the scanner's user: it is there with what identifies the patient.
    described = any("description" in each for each in document["series"])
    rows = [
        (
            "screened" if each["chosen"] else explain(each["reason"]).words,
            each["modality"],
            each["instance_count"],
            *((each["description"],) if described else ()),
            each["detail"],
            each["series_instance_uid"],
        )
        for each in document["series"]
    ]
    columns = (
        *("decision", "modality", "instances"),
        *(("description",) if described else ()),
        *("detail", "Series Instance UID"),
    )
    print_table("Series", columns, rows)
    files = [
        (each["file"], explain(each["reason"]).words, each["detail"])
        for each in document.get("refused_files", [])
    ]
    if files:
        print_table("Refused files", ("file", "why", "detail"), files)


def _print_deliveries(deliveries: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["destination"],
            each["kind"],
            each["state"],
            each["attempts"],
            each["commitment"].replace("_", " "),
            each["commitment_error"] or each["last_error"],
            each["sop_instance_uid"],
        )
        for each in deliveries
    ]
    columns = (
        "destination",
        "object",
        "state",
        "attempts",
        "commitment",
        "last error",
        "SOP Instance UID",
    )
    print_table("Deliveries", columns, rows)


def _print_events(events: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["at"].replace("T", " "),
            each["event"].replace("_", " "),
            ", ".join(
                f"{key} {value}"
                for key, value in each.items()
                if key not in _EVENT_FACTS_SHOWN_ELSEWHERE and value not in ("", None)
            ),
        )
        for each in events
    ]
    print_table("History", ("when", "what", "facts"), rows)
