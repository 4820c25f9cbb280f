"""The measuring decoder sees what its child takes, also of one that is ended by its limits."""

import pytest

from bench.faults.metered_decoder import MeteredDecoder
from dicom_node.errors import RefusedError
from dicom_node.reading.decoder_process import DecoderEndedError


def end_within_an_order(decoder):
    with decoder._conversation("an instance") as child:
        child.end()
        raise DecoderEndedError(-6)


def test_the_figures_of_a_child_that_ended_are_kept(tmp_path):
    path = tmp_path / "nothing.dcm"
    path.write_bytes(bytes(200))
    with MeteredDecoder() as decoder:
        with pytest.raises(RefusedError):
            decoder.read_header(path)
        with pytest.raises(RefusedError):
            end_within_an_order(decoder)
        assert decoder.pid is None
    assert decoder.resident_megabytes > 10
    assert decoder.address_megabytes >= decoder.resident_megabytes
    assert 0 <= decoder.longest_seconds < 5
