"""Searches without Spark, and the command, on a catalogue and on a table of a lake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from ampel_spark import cli
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.lake.marker import mark
from ampel_spark.sky import healpix, regions
from ampel_spark.sky.angles import separation
from ampel_spark.sky.search import around, in_region, register, search
from ampel_spark.sky.store import add
from tests.sky.skies import awkward_sky

RA, DEC = awkward_sky(3000, seed=5)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    root = mark(tmp_path / "lake")
    table = pa.table({"id": np.arange(3000), "ra": RA, "dec": DEC, "z": np.arange(3000) / 3000})
    add(root, "galaxies", table)
    hpx = healpix.pixels(RA, DEC)
    order = np.argsort(hpx)
    rows = table.append_column("hpx", pa.array(hpx)).take(order)
    for part in range(6):
        write_deltalake(str(root / "alerts"), rows.slice(part * 500, 500), mode="append")
    write_deltalake(str(root / "plain"), table)
    return root


@pytest.mark.parametrize("table", ["galaxies", "alerts", "plain"])
def test_a_search_finds_what_is_there(lake: Path, table: str) -> None:
    cone = search(lake, table, regions.cone(RA[7], DEC[7], 60.0), ["id"])
    inside = np.flatnonzero(separation(RA, DEC, RA[7], DEC[7]) <= 60.0)
    assert sorted(cone["id"].to_pylist()) == inside.tolist()
    assert len(inside) > 10
    box = search(lake, table, regions.box((350, 10), (-20, 20)))
    assert box["id"].to_pylist()
    assert box.column_names[0] == "id"


def test_many_cones_say_which_one_a_row_is_of_and_how_far(lake: Path) -> None:
    some = [7, 100, 2000]
    found = around(lake, "galaxies", RA[some], DEC[some], [60.0, 5.0, 300.0], ["id"])
    assert found.column_names == ["cone", "distance", "id"]
    for number, i in enumerate(some):
        mine = found.filter(pa.array(found["cone"].to_numpy() == number))
        apart = separation(RA, DEC, RA[i], DEC[i])
        expected = np.flatnonzero(apart <= [60.0, 5.0, 300.0][number])
        assert sorted(mine["id"].to_pylist()) == expected.tolist()
        assert (np.diff(mine["distance"].to_numpy()) >= 0).all()


def test_a_single_cone_needs_neither_spark_nor_a_compiler(lake: Path) -> None:
    code = (
        "import sys; from ampel_spark import cli; "
        f"code = cli.main(['search', 'galaxies', '--lake', {str(lake)!r}, "
        f"'--cone', '{RA[7]}', '{DEC[7]}', '60']); "
        "assert not {'pyspark', 'numba'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "distance"


def test_rows_of_other_programs_are_left_out(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pa.table({"id": [1, 2, 3], "ra": [1.0] * 3, "dec": [1.0] * 3,
                     "programid": pa.array([1, 2, 1], pa.int32())})  # fmt: skip
    write_deltalake(str(lake / "mixed"), rows)
    words = ["search", "mixed", "--lake", str(lake), "--format", "json", "--cone", "1", "1", "1"]
    assert cli.main(words) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [1, 3]
    assert cli.main([*words, "--programid", "1", "2"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert len(search(lake, "mixed", regions.cone(1.0, 1.0, 1.0))) == 3


def test_the_command_prints_rows_without_starting_spark(
    lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["search", "galaxies", "--lake", str(lake), "--format", "json"]
    assert cli.main([*words, "--cone", str(RA[100]), str(DEC[100]), "1"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert 100 in [row["id"] for row in rows]
    assert rows[0]["distance"] == 0.0
    (tmp_path / "cones.csv").write_text(f"ra,dec\n{RA[7]},{DEC[7]}\n{RA[8]},{DEC[8]}\n")
    assert cli.main([*words, "--cones", str(tmp_path / "cones.csv"), "--radius", "2"]) == 0
    assert {row["cone"] for row in json.loads(capsys.readouterr().out)} == {0, 1}
    assert cli.main([*words, "--polygon", "0", "0", "20", "0", "10", "30"]) == 0
    assert all(0 <= row["ra"] <= 20 for row in json.loads(capsys.readouterr().out))
    assert (
        cli.main(["search", "galaxies", "--lake", str(lake), "--box", "0", "360", "-90", "90"]) == 0
    )
    assert "… and 2980 more" in capsys.readouterr().out
    assert cli.main([*words, "--polygon", "1", "2", "3"]) == 2
    (tmp_path / "cones.csv").write_text("ra,dec\n10,91\n")
    for bad in (["--cone", "10", "91", "1"], ["--cones", str(tmp_path / "cones.csv")]):
        capsys.readouterr()
        assert cli.main([*words, *bad]) == 2
        assert "10 91 is no position" in capsys.readouterr().err


@pytest.mark.spark
def test_spark_and_sql_find_the_same_rows(spark: SparkSession, lake: Path) -> None:
    polygon = regions.polygon([350, 10, 0], [-20, -20, 30])
    expected = sorted(search(lake, "alerts", polygon, ["id"])["id"].to_pylist())
    assert len(expected) > 50
    rows = spark.read.format("delta").load(str(lake / "alerts"))
    assert sorted(r["id"] for r in in_region(rows, polygon).select("id").collect()) == expected
    here = register(spark, "in_polygon", polygon)
    found = spark.sql(f"SELECT id FROM delta.`{lake}/alerts` WHERE {here} ORDER BY id").collect()
    assert [r["id"] for r in found] == expected


def test_what_is_not_there_is_told(lake: Path) -> None:
    cone = regions.cone(1.0, 1.0, 1.0)
    with pytest.raises(LakeError, match="no table or catalogue 'galaxis'; did you mean 'galaxies'"):
        search(lake, "galaxis", cone)
    with pytest.raises(ConfigError, match="has no column 'zz'; did you mean 'z'"):
        search(lake, "galaxies", cone, ["zz"])
    write_deltalake(str(lake / "runs"), pa.table({"a": [1]}))
    with pytest.raises(ConfigError, match="has no positions"):
        search(lake, "runs", cone)
