"""What all result objects say alike: patient, study, equipment, dates and file meta."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, TypedDict

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from pydicom import dcmwrite
from pydicom.valuerep import DA, DT, TM

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects import codes
from dicom_node.objects.provenance import MANUFACTURER, MODEL_NAME
from dicom_node.objects.source_headers import study_attributes

if TYPE_CHECKING:
    from datetime import datetime

    from pydicom import Dataset

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries

# UTF-8, whatever the source is written in: an institution's name need not fit into that.
CHARACTER_SET = "ISO_IR 192"


class InstanceAttributes(TypedDict):
    """Arguments that every SOP class constructor of highdicom takes alike."""

    instance_number: int
    manufacturer: str
    manufacturer_model_name: str
    software_versions: str
    device_serial_number: str
    content_date: DA
    content_time: TM
    series_date: DA
    series_time: TM
    contributing_equipment: list[ContributingEquipment]
    specific_character_set: str


def instance_attributes(context: ResultContext) -> InstanceAttributes:
    """Equipment and times of a result, as highdicom's constructors take them."""
    date, time = _date(context.created_at), _time(context.created_at)
    return InstanceAttributes(
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.equipment.software_version,
        device_serial_number=_serial_number(context),
        content_date=date,
        content_time=time,
        series_date=date,
        series_time=time,
        contributing_equipment=[_contributing_equipment(context)],
        specific_character_set=CHARACTER_SET,
    )


def algorithm_identification(context: ResultContext) -> AlgorithmIdentificationSequence:
    """Algorithm of a segment (Algorithm Identification Macro, PS3.3 section 10.16)."""
    return AlgorithmIdentificationSequence(
        name=context.model.name,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=context.model.version,
        source=MANUFACTURER,
    )


def write_common_attributes(dataset: Dataset, series: CtSeries, context: ResultContext) -> None:
    """Replace what a constructor made up by what source and context say.

    highdicom writes the present time and its own implementation UID. Without them the same result
    gives the same bytes.

    Parameters
    ----------
    dataset
        A new object; changed in place.
    series
        The source series, for patient and study.
    context
        The result.
    """
    dataset.update(study_attributes(series))
    date, time = _date(context.created_at), _time(context.created_at)
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.StationName = context.equipment.station_name
    if context.equipment.institution_name:
        dataset.InstitutionName = context.equipment.institution_name
    for item in dataset.ContributingEquipmentSequence:
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value:
            item.ContributionDateTime = _date_time(context.created_at)
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def encode_file(dataset: Dataset) -> bytes:
    """Encode an object as a DICOM file (PS3.10 section 7.1)."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _contributing_equipment(context: ResultContext) -> ContributingEquipment:
    model = context.model
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=model.name,
        software_versions=[context.equipment.software_version, model.version],
        device_serial_number=_serial_number(context),
        station_name=context.equipment.station_name,
        institution_name=context.equipment.institution_name or None,
        contribution_datetime=_date_time(context.created_at),
        contribution_description=(
            f"AI screening with {model.name} {model.version}, weights sha256 {model.sha256}"
        ),
    )
    item.DeviceUID = context.device_uid
    return item


def _serial_number(context: ResultContext) -> str:
    return context.model.sha256[:16]


def _date(moment: datetime) -> DA:
    return DA(moment.strftime("%Y%m%d"))


def _time(moment: datetime) -> TM:
    return TM(moment.strftime("%H%M%S.%f"))


def _date_time(moment: datetime) -> DT:
    return DT(moment.strftime("%Y%m%d%H%M%S.%f%z"))
