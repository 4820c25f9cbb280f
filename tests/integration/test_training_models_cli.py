"""`lungwatch model`: what is installed, its licence, and a damaged version."""

import shutil

import pytest
from support.command import lungwatch

from model import experiments
from model.registry import Registry
from worker.cli.experiments import list_ as list_experiments
from worker.cli.models import list_ as list_models


@pytest.fixture(scope="module")
def shipped():
    return Registry().get()


def test_list_and_show_as_json(shipped):
    (row,) = lungwatch("model", "list", "--json").json
    assert row["title"] == shipped.title
    assert row["sha256"] == shipped.manifest.sha256
    assert (row["state"], row["pinned"], row["on_disk"]) == ("current", False, True)
    shown = lungwatch("model", "show", shipped.title, "--json").json
    assert shown["network"]["input_size"] == shipped.manifest.network.input_size
    assert shown["licence"] == shipped.manifest.licence
    assert shown["state"] == "current"
    assert shown["card"] == shipped.model_card


def test_show_says_the_licence_first():
    done = lungwatch("model", "show")
    assert done.code == 0, done.stderr
    assert "LICENCE" in done.stdout.splitlines()[0]
    assert "non-commercial" in done.stdout.splitlines()[1].lower()


def test_list_and_show_tell_how_far_to_trust_a_network(shipped):
    (row,) = lungwatch("model", "list", "--json").json
    assert row["caution"] == shipped.manifest.caution
    listed = lungwatch("model", "list").stdout
    assert "1 version carries a caution: lungwatch model show NAME" in listed
    assert "CAUTION" in lungwatch("model", "show").stdout


def test_names_are_whole_on_80_columns(shipped, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    list_models()
    listed = capsys.readouterr().out
    assert f" {shipped.title} " in listed
    assert len(listed.splitlines()) < 16
    list_experiments()
    listed = capsys.readouterr().out
    assert [name for name in experiments.names() if f" {name} " not in listed] == []


def test_an_absent_version_is_named_with_the_ones_there_are(shipped):
    done = lungwatch("model", "show", "absent-1")
    assert done.code == 8
    assert shipped.title in done.stderr


def test_a_sites_damaged_version_is_not_shown_as_sound(shipped, tmp_path):
    copy = tmp_path / "own-1.0.0"
    shutil.copytree(shipped.folder, copy)
    manifest = (copy / "manifest.json").read_text()
    manifest = manifest.replace(f'"{shipped.manifest.name}"', '"own"')
    (copy / "manifest.json").write_text(manifest)
    with (copy / "weights.npz").open("ab") as file:
        file.write(b"x")
    assert len(lungwatch("model", "list", "--json", model_dir=tmp_path).json) == 2
    done = lungwatch("model", "show", "own", model_dir=tmp_path)
    assert done.code == 8
    assert "sha256" in done.stderr


def test_help_names_the_commands_of_the_data_scientist():
    done = lungwatch("model", "--help")
    for command in ("list", "show", "release", "compare", "promote", "rollback", "history", "lock"):
        assert command in done.stdout


def test_a_damaged_folder_is_listed_with_the_way_out(shipped, tmp_path):
    (tmp_path / "own-2.0.0").mkdir()
    (tmp_path / "own-2.0.0" / "manifest.json").write_bytes(b"\xff{")
    rows = lungwatch("model", "list", "--json", model_dir=tmp_path).json
    assert [(row["title"], row["state"]) for row in rows] == [
        (shipped.title, "current"),
        ("own-2.0.0", "damaged"),
    ]
    assert "remove or reinstall this folder" in rows[1]["caution"]
    assert "damaged" in lungwatch("model", "list", model_dir=tmp_path).stdout
    assert lungwatch("model", "show", model_dir=tmp_path).code == 0
