"""How Lungwatch names itself as a DICOM implementation, on the wire and in files."""

from pydicom.uid import UID

# Fixed for the life of the project (PS3.7 section D.3.3.2); derived from a UUID (PS3.5 section
# B.2), so that it belongs to nobody else.
IMPLEMENTATION_CLASS_UID = UID("2.25.71829954871185159541119502600049714382")
IMPLEMENTATION_VERSION_NAME = "LUNGWATCH"
