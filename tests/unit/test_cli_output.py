"""What commands print where nobody's terminal sets the width, and how much of it."""

from model.data.check import Check, Finding, Kind
from worker.cli import output
from worker.cli.data import _findings


def test_a_table_that_goes_into_a_pipe_is_not_folded_at_eighty_columns(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a-name-of-a-version-" * 6
    output.print_table("Versions", ["name", "licence"], [(name, "for research alone")])
    assert f" {name} " in capsys.readouterr().out


def test_a_narrow_terminal_is_kept_to(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    output.print_table("Versions", ["name"], [("word " * 20,)])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_of_many_findings_of_a_kind_the_first_are_shown_and_the_others_counted():
    repeated = tuple(Finding(Kind.REPEATED, (f"{n}.png",), f"{n}.png") for n in range(25))
    lone = Finding(Kind.NO_LUNG, ("a.dcm",), "a.dcm shows no lung")
    rows = _findings(
        Check(
            counts=(),
            findings=(*repeated, lone),
            shortcut=None,
            unknown_patients=0,
            pictures=(),
            splits=(),
        )
    )
    assert len(rows) == 12
    assert rows[10] == ("image listed again", "... and 15 more: --json")
    assert rows[11] == ("left out: no lung found", "a.dcm shows no lung")
