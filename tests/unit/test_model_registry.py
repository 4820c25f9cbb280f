"""The registry: which version is meant, and that other weights are never loaded."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from model.config import NetworkConfig
from model.data.fingerprints import Fingerprints, seen_by_version
from model.errors import ModelIntegrityError, RegistryError
from model.files import file_sha256
from model.inference import PredictionOptions, Predictor
from model.pooling import Calibration, Pooling
from model.registry import (
    NOT_EVALUATED,
    NOT_LISTED,
    SHIPPED_ROOT,
    TRAINING_DATA_FILE,
    Manifest,
    Registry,
    read_entry,
)
from model.release import Identity

_ABSOLUTE = re.compile(r"(?<![\w.*\"-])[/~]/?\w[\w.-]*|\"[/~][^\"]*|file://|\b[A-Za-z]:\\")


def _write(root, name="net", version="1.0.0", weights=b"weights", **changes):
    folder = root / f"{name}-{version}"
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(weights)
    manifest = Manifest(
        name=name,
        version=version,
        sha256=file_sha256(folder / "weights.npz"),
        network=NetworkConfig(input_size=64, base_filters=4),
        calibration=Calibration(0.5, -0.1),
        pooling=Pooling(0.3),
        operating_point=0.4,
        lesion_threshold=0.5,
        licence="CC BY-NC 4.0",
        data="drawn",
    )
    (folder / "manifest.json").write_text(dataclasses.replace(manifest, **changes).to_json())
    return folder


@pytest.fixture
def registry(tmp_path):
    _write(tmp_path / "shipped", version="0.9.0", weights=b"old")
    _write(tmp_path / "shipped", version="0.10.0", weights=b"new")
    _write(tmp_path / "site", name="own", version="3.0.0", weights=b"own")
    return Registry([tmp_path / "site", tmp_path / "absent"], shipped=tmp_path / "shipped")


def test_manifest_round_trip(tmp_path):
    folder = _write(tmp_path)
    manifest = read_entry(folder).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.network.input_size == 64
    assert manifest.calibration == Calibration(0.5, -0.1)


def test_every_version_of_every_root_is_listed(registry):
    assert [entry.title for entry in registry.list()] == ["net-0.10.0", "net-0.9.0", "own-3.0.0"]


def test_versions_are_found_by_title_name_and_sha256(registry):
    assert registry.get("net-0.9.0").manifest.version == "0.9.0"
    assert registry.get("net").manifest.version == "0.10.0"
    assert registry.get("own").title == "own-3.0.0"
    sha256 = registry.get("net-0.9.0").manifest.sha256
    assert registry.get(sha256[:12]).title == "net-0.9.0"
    assert registry.get("net-0.9.0").model_version.sha256 == sha256


def test_an_absent_version_says_which_there_are(registry):
    with pytest.raises(RegistryError, match=r"no model net-2.*net-0\.10\.0"):
        registry.get("net-2")


def test_one_name_for_two_sets_of_weights_is_ambiguous(tmp_path):
    _write(tmp_path / "a", weights=b"a")
    _write(tmp_path / "b", weights=b"b")
    with pytest.raises(RegistryError, match=r"ambiguous.*by its sha256"):
        Registry([tmp_path / "b"], shipped=tmp_path / "a").get("net-1.0.0")


def test_one_sha256_of_two_versions_is_ambiguous(tmp_path):
    _write(tmp_path, version="1.0.0", operating_point=0.4)
    _write(tmp_path, version="1.1.0", operating_point=0.9)
    registry = Registry(shipped=tmp_path)
    with pytest.raises(RegistryError, match=r"ambiguous.*by its name-version"):
        registry.get(registry.get("net-1.0.0").manifest.sha256)


def test_one_version_with_two_manifests_is_ambiguous(tmp_path):
    site, copied = _write(tmp_path / "site"), _write(tmp_path / "copied", operating_point=0.99)
    registry = Registry([tmp_path / "copied", tmp_path / "site"], shipped=tmp_path / "absent")
    with pytest.raises(RegistryError, match=r"ambiguous.*manifests differ, leave only"):
        registry.get("net-1.0.0")
    model = read_entry(site).model_version
    for folder in (site, copied):
        assert registry.find(model, read_entry(folder).manifest_sha256).folder == folder
    assert registry.find(model, "0" * 64).folder == registry.find(model).folder == copied
    (copied / "manifest.json").write_bytes((site / "manifest.json").read_bytes())
    assert registry.get("net-1.0.0").manifest.operating_point == 0.4


def test_tampered_weights_are_refused(tmp_path):
    folder = _write(tmp_path)
    assert read_entry(folder).verified_weights().read_bytes() == b"weights"
    (folder / "weights.npz").write_bytes(b"Weights")
    with pytest.raises(ModelIntegrityError, match="install the version again"):
        read_entry(folder).verified_weights()


def test_a_list_of_training_data_is_the_one_the_manifest_names(tmp_path):
    seen = Fingerprints(frozenset("p"), frozenset("f"))
    seen.write(tmp_path / "list.json")
    text = (tmp_path / "list.json").read_text()
    for version, named, told in (
        ("1.0.0", file_sha256(tmp_path / "list.json"), seen),
        ("2.0.0", "0" * 64, None),
        ("3.0.0", NOT_LISTED, None),
        ("4.0.0", "", seen),
    ):
        folder = _write(tmp_path, version=version, training_data_sha256=named)
        assert seen_by_version(read_entry(folder)) is None, "there is none yet"
        (folder / TRAINING_DATA_FILE).write_text(text)
        assert seen_by_version(read_entry(folder)) == told


def test_absent_weights_are_refused(tmp_path):
    folder = _write(tmp_path)
    (folder / "weights.npz").unlink()
    with pytest.raises(RegistryError, match="cannot be read"):
        read_entry(folder).verified_weights()


def test_a_release_that_was_cut_off_is_no_version(tmp_path):
    whole = _write(tmp_path)
    whole.rename(tmp_path / ".net-1.0.0.unfinished")
    assert Registry(shipped=tmp_path).list() == ()


def test_versions_are_found_by_all_of_their_identity(registry):
    wanted = registry.get("net-0.9.0").model_version
    assert registry.find(wanted).title == "net-0.9.0"
    assert registry.find(dataclasses.replace(wanted, sha256="0" * 64)) is None
    assert registry.newest_shipped().title == "net-0.10.0"


def test_versions_that_share_their_weights_give_results_of_their_own(tmp_path):
    """Screening again with another calibration of the same weights is another result."""
    versions = [
        read_entry(_write(tmp_path, version="1.0.0")),
        read_entry(_write(tmp_path, version="1.0.1")),
        read_entry(_write(tmp_path, version="1.0.2", calibration=Calibration(0.7))),
    ]
    assert len({entry.manifest.sha256 for entry in versions}) == 1
    engine = SimpleNamespace(name="none")
    digests = {Predictor(v, PredictionOptions(), engine).pipeline_digest() for v in versions}
    assert len(digests) == 3
    assert len({entry.manifest_sha256 for entry in versions}) == 3


def test_a_manifest_without_a_caution_says_that_nobody_looked(tmp_path):
    path = _write(tmp_path) / "manifest.json"
    values = json.loads(path.read_text())
    del values["caution"]
    path.write_text(json.dumps(values))
    assert read_entry(path.parent).manifest.caution == NOT_EVALUATED


@pytest.mark.parametrize("change", [{"network": {"input_size": 5}}, {"pooling": {}}, {"x": 1}])
def test_a_manifest_that_does_not_fit_is_named(tmp_path, change):
    path = _write(tmp_path) / "manifest.json"
    values = json.loads(path.read_text()) | change
    if change == {"pooling": {}}:
        del values["operating_point"]
    path.write_text(json.dumps(values))
    with pytest.raises(RegistryError, match=r"manifest\.json"):
        read_entry(path.parent)


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[]", b'{"version": 3}', b'{"network": []}']
)
def test_a_damaged_version_takes_no_other_with_it(registry, tmp_path, content):
    broken = tmp_path / "site" / "own-9.0.0"
    broken.mkdir()
    (broken / "manifest.json").write_bytes(content)
    wanted = registry.get("own")
    assert wanted.title == "own-3.0.0"
    assert registry.find(wanted.model_version) == wanted
    assert registry.newest_shipped().title == "net-0.10.0"
    assert len(registry.list()) == 3
    (damaged,) = registry.damaged()
    assert damaged.folder == broken
    assert "remove or reinstall this folder" in damaged.problem
    with pytest.raises(RegistryError, match=r"damaged: .*own-9\.0\.0.*remove or reinstall"):
        registry.get("own-9.0.0")


def test_a_version_that_is_no_text_is_refused(tmp_path):
    path = _write(tmp_path) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(RegistryError, match="version is no text"):
        read_entry(path.parent)


def test_shipped_versions_are_whole():
    entries = Registry().list()
    assert entries, "the package ships a network"
    for entry in entries:
        assert entry.folder.name == entry.title
        assert entry.verified_weights().stat().st_size <= 20e6
        assert "non-commercial" in entry.manifest.licence.lower()
        assert entry.manifest.sha256 in entry.model_card
        assert entry.manifest.caution in entry.model_card.splitlines()[2]


@pytest.mark.parametrize("bad", ["../../x", "/tmp/x", "a/b", "", ".", "-x", "a b", "1.0\n"])
def test_a_release_is_never_named_out_of_its_registry(bad):
    for name, version, what in ((bad, "1.0.0", "name"), ("net", bad, "version")):
        with pytest.raises(RegistryError, match=f"{what} .*letters, digits"):
            Identity(name, version, "")
    assert Identity("net-work_1", "1.0.0-rc.1", "").version == "1.0.0-rc.1"


def test_what_is_shipped_tells_no_path_of_the_machine_that_made_it():
    files = [path for path in SHIPPED_ROOT.rglob("*") if path.is_file()]
    texts = [path for path in files if path.suffix in {".json", ".md"}]
    assert len(texts) >= 5
    for path in files:
        if path in texts:
            found = _ABSOLUTE.findall(path.read_text())
        else:
            with np.load(path) as stored:
                found = [name for name in stored.files if _ABSOLUTE.search(name)]
        assert found == [], path


@pytest.mark.parametrize(
    "text",
    ['"/tmp/runs/p2"', "from /home/a/b.csv,", "file:///srv/x", '"C:\\\\runs\\\\p2"', "~/runs"],
)
def test_absolute_paths_are_recognised(text):
    assert _ABSOLUTE.search(text)
    assert not _ABSOLUTE.search("covid-ct/covid, 10.1101/2020.04, two/three and 1 / 2")
