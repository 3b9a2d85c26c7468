"""The figures: they can be measured, and what is computed of them is right."""

import json
from pathlib import Path

import pytest

from tests.mesh.figures import Figure, figure, main


def test_the_figures_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "figures.json"
    main(["--starts", "1", "--json", str(written), "discovery", "restart"])
    rows = json.loads(written.read_text(encoding="utf-8"))
    assert [len(row["seconds"]) for row in rows] == [1] * 4
    assert all(0 < row["p50"] == row["p95"] for row in rows if "program" in row["what"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    hundred = figure("a hundred", "", [float(number) for number in range(100, 0, -1)])
    assert (hundred.median, hundred.p95) == (50.5, 95.0)
    assert figure("one", "", [3.0]).p95 == 3.0
    assert figure("twenty", "", [float(number) for number in range(1, 21)]).p95 == 19.0
    missed = figure("with misses", "p50 1 s", [2.0, None])
    assert missed == Figure("with misses", "p50 1 s", (2.0,), 1)
    assert str(missed).endswith("p50 1 s   1 NEVER")


def test_a_figure_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "speed is no figure: choose among discovery, loss" in capsys.readouterr().err
