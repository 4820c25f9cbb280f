"""Coded concepts of the result objects: standard codes, and the private ones with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

from model.prediction import Laterality

if TYPE_CHECKING:
    from collections.abc import Mapping

# Anatomy (CID 4, CID 244).
LUNG = Code("39607008", "SCT", "Lung")
LATERALITY: Mapping[Laterality, Code] = {
    Laterality.LEFT: Code("7771000", "SCT", "Left"),
    Laterality.RIGHT: Code("24028007", "SCT", "Right"),
    Laterality.BILATERAL: Code("51440002", "SCT", "Bilateral"),
}

# Findings (CID 7150, CID 7159, CID 240).
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LESION = Code("52988006", "SCT", "Lesion")
COVID_19 = Code("840539006", "SCT", "Disease caused by SARS-CoV-2")
PRESENCE_OF_PROPERTY = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")

# Measurements (CID 6048, CID 7469, CID 7470) and how they were derived (CID 7464).
CERTAINTY_OF_FINDING = Code("111012", "DCM", "Certainty of Finding")
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
VOLUME = Code("118565006", "SCT", "Volume")
AREA = Code("42798000", "SCT", "Area")
DIAMETER = Code("81827009", "SCT", "Diameter")
ATTENUATION_COEFFICIENT = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
TOTAL = Code("255619001", "SCT", "Total")

# Units (CID 7181, CID 7462; one cubic centimetre is one millilitre).
NO_UNITS = Code("1", "UCUM", "no units")
PERCENT = Code("%", "UCUM", "Percent")
MILLIMETER = Code("mm", "UCUM", "mm")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")

# The procedure, the report and what made it (CID 100, CID 7162, CID 7202).
CT_CHEST = Code("24627-2", "LN", "CT Chest")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

SOURCE_FOR_MONTAGE = Code("121329", "DCM", "Source image for montage")

PRIVATE_SCHEME = "99LUNGWATCH"
PRIVATE_SCHEME_NAME = "Lungwatch private codes"

# DCM 111071 "CAD Operating Point" numbers discrete points of an FROC curve; ours is the threshold
# itself, a probability, and no standard code says so.
OPERATING_POINT = Code("operating-point", PRIVATE_SCHEME, "Operating point of the certainty")
# DCM 112008 "Site involvement" is a concept without a quantity; no standard code names the share
# of the lung volume that lesions take.
LUNG_INVOLVEMENT = Code("lung-involvement", PRIVATE_SCHEME, "Lesion share of lung volume")
