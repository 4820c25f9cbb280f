"""Coded reasons why an input is not screened: one closed list for database, CLI and documents."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an instance, a series or a study was not screened. The value is what users see."""

    # Nothing is wrong with these: they are no candidates for screening.
    NOT_CT = "not_ct"
    OWN_RESULT = "own_result"
    NOT_PREFERRED = "not_preferred"

    # The series shows something else than an axial chest.
    LOCALIZER = "localizer"
    DERIVED_IMAGE = "derived_image"
    NOT_AXIAL = "not_axial"
    NOT_CHEST = "not_chest"
    NO_LUNG = "no_lung"
    TOO_FEW_SLICES = "too_few_slices"

    # Its geometry cannot carry a measurement.
    MISSING_GEOMETRY = "missing_geometry"
    MIXED_ORIENTATIONS = "mixed_orientations"
    GANTRY_TILT = "gantry_tilt"
    MISSING_SLICES = "missing_slices"
    IRREGULAR_SPACING = "irregular_spacing"
    CONFLICTING_DUPLICATES = "conflicting_duplicates"

    # Its pixels cannot be trusted.
    MISSING_RESCALE = "missing_rescale"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNDECODABLE_PIXELS = "undecodable_pixels"
    SHORT_PIXEL_DATA = "short_pixel_data"
    TOO_LARGE = "too_large"
    DECODER_FAILED = "decoder_failed"
    SPOOL_DAMAGED = "spool_damaged"

    # It is not what it says it is.
    NOT_DICOM = "not_dicom"
    MISSING_ATTRIBUTES = "missing_attributes"
