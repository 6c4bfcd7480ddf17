"""Commands on catalogues, without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark import cli


def table(z: float = 0.1) -> pa.Table:
    return pa.table({"RA": [10.0, 200.0, None], "DEC": [1.0, -30.0, 0.0], "z": [z, 0.2, 0.3]})


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    parquet.write_table(table(), tmp_path / "g.parquet")
    (tmp_path / "g.yml").write_text(
        "description: galaxies\nra: RA\ndec: DEC\nlicence: CC0\ncitation: Me 2024\n"
    )
    return ["--lake", str(tmp_path / "lake")]


def test_a_catalogue_is_added_listed_shown_and_compared(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adding = ["catalog", "add", "galaxies", str(tmp_path / "g.parquet"),
              "--settings", str(tmp_path / "g.yml"), *words]  # fmt: skip
    assert cli.main(adding) == 0
    out = capsys.readouterr().out
    assert "catalogue galaxies added version 0, 2 rows in 1 tile," in out
    assert "1 of 3 rows have no position" in out
    assert cli.main(adding) == 0
    assert "is there already" in capsys.readouterr().out
    parquet.write_table(table(0.5), tmp_path / "g.parquet")
    assert cli.main([*adding, "--format", "json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["version"], row["new"], row["left_out"]) == (1, True, 1)
    assert cli.main(["catalog", "list", *words]) == 0
    assert "galaxies" in capsys.readouterr().out
    assert cli.main(["catalog", "show", "galaxies", *words]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("CC0", "Me 2024", "g.parquet", "versions"))
    assert cli.main(["catalog", "diff", "galaxies", "0", "1", *words]) == 0
    assert "0 tiles are the same, 1 are not" in capsys.readouterr().out


def test_what_is_wrong_is_told_and_ends_with_code_2(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "g.parquet")
    assert cli.main(["catalog", "add", "galaxies", file, *words]) == 2
    assert "no column 'ra'" in capsys.readouterr().err
    (tmp_path / "bad.yml").write_text("ra: RA\ndecc: DEC\n")
    bad = ["--settings", str(tmp_path / "bad.yml")]
    assert cli.main(["catalog", "add", "galaxies", file, *bad, *words]) == 2
    assert "did you mean 'dec'" in capsys.readouterr().err
    assert cli.main(["catalog", "show", "galaxies", *words]) == 2
    assert "ampel-spark catalog add galaxies FILE" in capsys.readouterr().err
