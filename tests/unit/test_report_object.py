"""Reports of small series, read with highdicom's own reader."""

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR
from pydicom.uid import Comprehensive3DSRStorage
from support.synthetic_result import MODEL, TINY_LESIONS, context_of, predict, tiny_series

from dicom_node.objects import codes
from dicom_node.objects.provenance import PredecessorReport
from dicom_node.objects.report import encode_report
from dicom_node.objects.segmentation import encode_segmentation

PREDECESSOR = PredecessorReport("1.2.3.1", "1.2.3.20", Comprehensive3DSRStorage, "1.2.3.21")


def encode(series, lesions=TINY_LESIONS, probability=0.87, **changes):
    prediction = predict(series, lesions, probability=probability)
    context = context_of(series, **changes)
    segmentation = encode_segmentation(series, prediction, context)
    report = encode_report(series, prediction, segmentation, context)
    return Comprehensive3DSR.from_dataset(report), segmentation, prediction


def study_group_of(report):
    (group,) = report.content.get_image_measurement_groups()
    return group


def values_of(group):
    return {item.name.meaning: item.value for item in group.get_measurements()}


def items_of(dataset):
    yield dataset
    for item in dataset.get("ContentSequence", []):
        yield from items_of(item)


def test_a_report_is_preliminary_complete_and_unverified():
    report, _, _ = encode(tiny_series())

    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"
    assert "VerifyingObserverSequence" not in report
    assert report.PerformedProcedureCodeSequence[0].CodeMeaning == "CT Chest"


@pytest.mark.parametrize(
    ("probability", "presence"), [(0.87, codes.PRESENT), (0.5, codes.PRESENT), (0.1, codes.ABSENT)]
)
def test_the_study_is_told_in_one_group(probability, presence):
    report, _, prediction = encode(tiny_series(), probability=probability)
    group = study_group_of(report)
    values = values_of(group)

    assert group.finding_type == codes.COVID_19
    (evaluation,) = group.get_qualitative_evaluations(name=codes.PRESENCE_OF_PROPERTY)
    assert evaluation.value == presence
    assert values["Certainty of Finding"] == pytest.approx(100 * probability)
    assert values["Operating point of the certainty"] == 50
    assert values["Number of lesions"] == 2
    assert values["Volume"] == pytest.approx(prediction.total_lesion_volume_ml, abs=1e-3)
    share = values["Lesion share of lung volume"]
    assert share == pytest.approx(prediction.lung_involvement_percent, abs=1e-3)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_each_lesion_has_a_segment_and_an_outline_with_one_tracking_uid(multi_frame):
    series = tiny_series(multi_frame=multi_frame)
    report, segmentation, prediction = encode(series)
    volumetric = report.content.get_volumetric_roi_measurement_groups()
    planar = report.content.get_planar_roi_measurement_groups()
    tracking_uids = [segment.TrackingUID for segment in segmentation.SegmentSequence]

    assert [group.tracking_uid for group in volumetric] == tracking_uids
    assert [group.tracking_uid for group in planar if group.finding_type == codes.LESION] == (
        tracking_uids
    )
    for finding, group in zip(prediction.findings, volumetric, strict=True):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert segment.referenced_segment_numbers == [finding.segment_number]
        values = values_of(group)
        assert values["Volume"] == pytest.approx(finding.volume_ml, abs=1e-3)
        assert values["Attenuation Coefficient"] == pytest.approx(finding.mean_hu, abs=1e-3)
        assert values["Diameter"] == pytest.approx(finding.maximum_diameter_mm, abs=1e-3)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_the_outline_lies_around_the_lesion_on_its_largest_slice(multi_frame):
    series = tiny_series(multi_frame=multi_frame)
    report, _, prediction = encode(series)
    groups = {
        group.tracking_identifier: group
        for group in report.content.get_planar_roi_measurement_groups()
    }
    for finding in prediction.findings:
        group = groups[f"Lungwatch lesion {finding.segment_number}"]
        reference = series.slices[finding.largest_slice_index]
        source = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
        assert source.ReferencedSOPInstanceUID == reference.sop_instance_uid
        assert source.get("ReferencedFrameNumber") == reference.frame_number

        mask = prediction.lesion_mask.labels[finding.largest_slice_index] == finding.segment_number
        rows, columns = np.nonzero(mask)
        outline = group.roi.value
        assert outline.min(axis=0).tolist() == [columns.min(), rows.min()]
        assert outline.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
        assert values_of(group)["Area"] == pytest.approx(mask.sum() * 1.5 * 1.25, abs=1e-3)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_evidence_lists_every_source_and_the_segmentation(multi_frame):
    series = tiny_series(multi_frame=multi_frame)
    report, segmentation, _ = encode(series)
    listed = {instance for _, _, instance, _ in report.get_evidence()}

    assert listed == {
        segmentation.SOPInstanceUID,
        *(reference.sop_instance_uid for reference in series.slices),
    }
    source_classes = {reference.sop_class_uid for reference in series.slices}
    assert {sop_class for *_, sop_class in report.get_evidence()} == {
        segmentation.SOPClassUID,
        *source_classes,
    }


def test_without_a_lesion_the_report_stands_alone():
    report, segmentation, _ = encode(tiny_series(), lesions=(), probability=0.1)

    assert segmentation is None
    assert values_of(study_group_of(report))["Number of lesions"] == 0
    assert report.content.get_volumetric_roi_measurement_groups() == []
    assert len(report.get_evidence()) == 12


def test_a_later_revision_names_the_report_it_supersedes():
    first, _, _ = encode(tiny_series())
    second, _, _ = encode(tiny_series(), revision=2, predecessor=PREDECESSOR)
    series = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    instance = series.ReferencedSOPSequence[0]

    assert "PredecessorDocumentsSequence" not in first
    assert series.SeriesInstanceUID == PREDECESSOR.series_instance_uid
    assert instance.ReferencedSOPInstanceUID == PREDECESSOR.sop_instance_uid
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_decimal_strings_fit_their_value_representation():
    report, _, _ = encode(tiny_series(), probability=1 / 3)
    decimals = [
        str(item.MeasuredValueSequence[0].NumericValue)
        for item in items_of(report)
        if item.get("ValueType") == "NUM"
    ]

    assert decimals
    assert all(len(decimal) <= 16 for decimal in decimals)


def test_the_device_observer_and_the_equipment_are_one_device():
    series = tiny_series()
    report, _, _ = encode(series)
    own = [
        item
        for item in report.ContributingEquipmentSequence
        if item.get("ManufacturerModelName") == MODEL.name
    ]
    observers = [
        item.UID
        for item in items_of(report)
        if item.get("ValueType") == "UIDREF"
        and item.ConceptNameCodeSequence[0].CodeMeaning == "Device Observer UID"
    ]

    assert [item.DeviceUID for item in own] == observers == [context_of(series).device_uid]


def test_private_codes_name_their_scheme():
    report, _, _ = encode(tiny_series())
    (scheme,) = report.CodingSchemeIdentificationSequence

    assert scheme.CodingSchemeDesignator == codes.PRIVATE_SCHEME
    for name, code in vars(codes).items():
        if isinstance(code, codes.Code):
            assert len(code.value) <= 16, name
            assert len(code.meaning) <= 64, name
