"""Malformed data sets made from real ones, the same for the same number."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.encaps import encapsulate, generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom import Dataset

_ITEM = bytes.fromhex("feff00e0")
_UNDEFINED = b"\xff" * 4
# Request Attributes Sequence, of undefined length.
_SEQUENCE = bytes.fromhex("40007502") + b"SQ\0\0" + _UNDEFINED
_LENGTHS = (0, 1, 7, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = (0, 1, 2, 7, 255, 32767, 65535)
_TEXTS = (b"nan", b"1e999", b"--", b"..", b"\\" * 30, b"9" * 200, b"../../../etc/passwd", b"\0\0",
          b"\xff\xfe\xfd", b"1\\2\\x", b"%s%n", b"<script>", b"\x1b$B" * 9)  # fmt: skip
_DEEPEST = 20_000
_MANY = 40_000
_SYNTAXES = (
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless, ExplicitVRLittleEndian),
    *(UID("1.2.840.10008.1.2"), UID("1.2.840.10008.1.2.2"), UID("1.2.840.10008.1.2.4.50")),
    *(UID("1.2.840.113619.5.2"), UID("1.2.3.4")),
)


@dataclass(frozen=True)
class Sample:
    """A sound data set, encoded in Explicit VR Little Endian, with its transfer syntax."""

    transfer_syntax_uid: str
    content: bytes
    pixels_at: int


@dataclass(frozen=True)
class Malformed:
    """A data set that no sender should send."""

    kind: str
    transfer_syntax_uid: str
    content: bytes


def samples_of(dataset: Dataset) -> list[Sample]:
    """Encode a native image in each of the codings that can be written here."""
    samples = []
    for syntax in (ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless):
        if syntax.is_compressed:
            dataset.compress(syntax, generate_instance_uid=False)
        samples.append(_encoded(dataset, syntax))
        if syntax.is_compressed:
            dataset.decompress(generate_instance_uid=False)
    return samples


def as_sent(dataset: Dataset) -> Sample:
    """Encode a data set in the transfer syntax that it came in."""
    return _encoded(dataset, dataset.file_meta.TransferSyntaxUID)


def _encoded(dataset: Dataset, syntax: UID) -> Sample:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    dataset["PixelData"].VR = "OB" if syntax.is_compressed else "OW"
    dataset["PixelData"].is_undefined_length = syntax.is_compressed
    write_dataset(buffer, dataset)
    content = buffer.getvalue()
    return Sample(str(syntax), content, content.rindex(bytes.fromhex("e07f1000") + b"O"))


def malformed(number: int, samples: Sequence[Sample]) -> Malformed:
    """Make the malformed data set of a number."""
    dice = random.Random(number)  # noqa: S311 - not a secret: the same again for the same number
    kind = _KINDS[number % len(_KINDS)]
    sample = dice.choice(samples)
    syntax, content = sample.transfer_syntax_uid, kind(dice, sample)
    if kind is _wrong_syntax:
        syntax = str(dice.choice(_SYNTAXES))
    if kind is _deflated_bomb:
        syntax = str(DeflatedExplicitVRLittleEndian)
    return Malformed(kind.__name__.strip("_"), syntax, content)


def _flipped(dice: random.Random, content: bytes, first: int, end: int) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 4, 30))):
        changed[dice.randrange(first, max(end, first + 1))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _bits_of_the_header(dice: random.Random, sample: Sample) -> bytes:
    return _flipped(dice, sample.content, 0, sample.pixels_at)


def _bits_of_the_pixels(dice: random.Random, sample: Sample) -> bytes:
    return _flipped(dice, sample.content, sample.pixels_at, len(sample.content))


def _bits_of_the_codestream_header(dice: random.Random, sample: Sample) -> bytes:
    begin = min(sample.pixels_at + 28, len(sample.content) - 1)
    return _flipped(dice, sample.content, begin, min(begin + 120, len(sample.content)))


def _cut(dice: random.Random, sample: Sample) -> bytes:
    return sample.content[: dice.randrange(len(sample.content))]


def _places(sample: Sample) -> list[tuple[int, int, bytes]]:
    """Give place, head length and VR of each top-level element before the pixels."""
    at, found = 0, []
    while at < sample.pixels_at:
        vr = sample.content[at + 4 : at + 6]
        if vr in {b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR"}:
            (length,) = struct.unpack_from("<I", sample.content, at + 8)
            head = 12
        else:
            (length,) = struct.unpack_from("<H", sample.content, at + 6)
            head = 8
        if length == 0xFFFFFFFF:
            break
        found.append((at, head, vr))
        at += head + length
    return found


def _a_length(dice: random.Random, sample: Sample) -> bytes:
    at, head, _ = dice.choice(_places(sample))
    length = dice.choice(_LENGTHS)
    field = struct.pack("<I", length) if head == 12 else struct.pack("<H", length & 0xFFFF)
    return sample.content[: at + head - len(field)] + field + sample.content[at + head :]


def _a_vr(dice: random.Random, sample: Sample) -> bytes:
    at, *_ = dice.choice(_places(sample))
    vr = dice.choice((b"SQ", b"UN", b"OB", b"US", b"DS", b"PN", b"zz", b"\0\0", b"ZZ", b"AT"))
    return sample.content[: at + 4] + vr + sample.content[at + 6 :]


def _inserted(dice: random.Random, sample: Sample, what: bytes) -> bytes:
    places = [at for at, *_ in _places(sample)]
    at = dice.choice((*places, sample.pixels_at))
    return sample.content[:at] + what + sample.content[at:]


def _deep_sequences(dice: random.Random, sample: Sample) -> bytes:
    depth = dice.choice((33, 300, 3000, _DEEPEST))
    return _inserted(dice, sample, (_SEQUENCE + _ITEM + _UNDEFINED) * depth)


def _deep_sequences_of_declared_length(dice: random.Random, sample: Sample) -> bytes:
    content = b""
    for _ in range(dice.choice((33, 300, 2000))):
        item = _ITEM + struct.pack("<I", len(content)) + content
        content = bytes.fromhex("40007502") + b"SQ\0\0" + struct.pack("<I", len(item)) + item
    return _inserted(dice, sample, content)


def _many_items(dice: random.Random, sample: Sample) -> bytes:
    items = (_ITEM + bytes(4)) * dice.randrange(_MANY)
    return _inserted(dice, sample, _SEQUENCE + items + bytes.fromhex("feffdde000000000"))


def _many_elements(dice: random.Random, sample: Sample) -> bytes:
    elements = (struct.pack("<HH", 9, 0x1001 + k % 0xEF00) for k in range(dice.randrange(_MANY)))
    return _inserted(dice, sample, b"".join(tag + b"LO\0\0" for tag in elements))


def _noise(dice: random.Random, sample: Sample) -> bytes:
    return _inserted(dice, sample, dice.randbytes(dice.choice((1, 8, 200, 70_000))))


def _nothing_but_noise(dice: random.Random, _: Sample) -> bytes:
    return dice.randbytes(dice.choice((0, 3, 200, 50_000)))


def _an_element_less(dice: random.Random, sample: Sample) -> bytes:
    places = [*(at for at, *_ in _places(sample)), sample.pixels_at]
    k = dice.randrange(len(places) - 1)
    return sample.content[: places[k]] + sample.content[places[k + 1] :]


def _a_value(dice: random.Random, sample: Sample) -> bytes:
    at, head, vr = dice.choice(_places(sample))
    if head == 12:
        return _a_length(dice, sample)
    (length,) = struct.unpack_from("<H", sample.content, at + 6)
    value = dice.choice(_TEXTS) * dice.choice((1, 1, 20))
    if vr == b"US":
        value = struct.pack("<H", dice.choice(_NUMBERS))
    value += b" " * (len(value) % 2)
    field = struct.pack("<H", len(value)) + value
    return sample.content[: at + 6] + field + sample.content[at + 8 + length :]


def _two_spliced(dice: random.Random, sample: Sample) -> bytes:
    at = dice.randrange(len(sample.content))
    return sample.content[:at] + sample.content[dice.randrange(len(sample.content)) :]


def _wrong_syntax(_: random.Random, sample: Sample) -> bytes:
    return sample.content


def _with_codestream(sample: Sample, frame: bytes) -> bytes:
    value = encapsulate([frame + b"\0" * (len(frame) % 2)])
    head = bytes.fromhex("e07f1000") + b"OB\0\0" + _UNDEFINED
    return sample.content[: sample.pixels_at] + head + value + bytes.fromhex("feffdde000000000")


def _a_codestream(sample: Sample) -> bytes:
    if not UID(sample.transfer_syntax_uid).is_compressed:
        return b""
    (frame,) = generate_frames(sample.content[sample.pixels_at + 12 :], number_of_frames=1)
    return frame


def _precinct_bomb(dice: random.Random, sample: Sample) -> bytes:
    """Part a JPEG 2000 image into precincts, tiles or layers that take the most (ISO 15444-1)."""
    frame = _a_codestream(sample)
    at = frame.find(b"\xff\x52")
    if sample.transfer_syntax_uid != JPEG2000Lossless or at < 0:
        return _bits_of_the_codestream_header(dice, sample)
    (length,) = struct.unpack_from(">H", frame, at + 2)
    cod = bytearray(frame[at : at + 2 + length])
    if dice.random() < 0.7:
        cod[4] |= 1
        cod += bytes(cod[9] + 1)
        cod[2:4] = struct.pack(">H", len(cod) - 2)
    if dice.random() < 0.5:
        cod[6:8] = struct.pack(">H", dice.choice((65535, 1000)))
    head = bytearray(frame[:at])
    if dice.random() < 0.5:
        # Width and height of a tile in SIZ (A.5.1).
        head[22:30] = struct.pack(">II", dice.choice((1, 2, 64)), dice.choice((1, 3, 64)))
    return _with_codestream(sample, bytes(head + cod + frame[at + 2 + length :]))


def _run_length_bomb(dice: random.Random, sample: Sample) -> bytes:
    runs = b"\x81\0" * dice.choice((1, 1000, 300_000))
    header = struct.pack("<16I", dice.choice((0, 1, 2, 15, 16, 2**31)), 64, *([100] * 14))
    return _with_codestream(sample, header + runs)


def _fragments(dice: random.Random, sample: Sample) -> bytes:
    frame = _a_codestream(sample) or b"no codestream"
    length = dice.choice((*_LENGTHS, len(frame)))
    offsets = struct.pack("<II", *(dice.choice(_LENGTHS) for _ in range(2)))
    table = _ITEM + struct.pack("<I", dice.choice((8, 4, 0, 6))) + offsets
    head = bytes.fromhex("e07f1000") + b"OB\0\0" + dice.choice((_UNDEFINED, struct.pack("<I", 99)))
    fragments = (_ITEM + struct.pack("<I", length) + frame) * dice.choice((1, 2, 50))
    return sample.content[: sample.pixels_at] + head + table + fragments


def _deflated_bomb(dice: random.Random, _: Sample) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(dice.choice((1, 64)))) + packer.flush()


_KINDS: tuple[Callable[[random.Random, Sample], bytes], ...] = (
    _bits_of_the_header,
    _bits_of_the_pixels,
    _bits_of_the_codestream_header,
    _cut,
    _a_length,
    _a_vr,
    _deep_sequences,
    _deep_sequences_of_declared_length,
    _many_items,
    _many_elements,
    _noise,
    _nothing_but_noise,
    _an_element_less,
    _a_value,
    _two_spliced,
    _wrong_syntax,
    _precinct_bomb,
    _run_length_bomb,
    _fragments,
    _deflated_bomb,
)
