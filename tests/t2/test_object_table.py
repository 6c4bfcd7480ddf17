"""Columns of a table by the object's name: found or not, with their types, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.table import MaskedColumn, Table

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.units.object_table import ObjectTable

COLUMNS = ("z", "n", "kind", "host")


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "object": ["001", "SN1"],
            "z": MaskedColumn([0.1, 0.0], mask=[False, True]),
            "n": [3, 4],
            "kind": ["Ia", "II"],
            "host": [True, False],
        }
    )


def curves(*names: str) -> LightCurveBatch:
    return LightCurveBatch.of([LightCurve.of(name=name, jd=[1.0], mag=[18.0]) for name in names])


@pytest.mark.parametrize("ending", ["csv", "ecsv", "parquet", "fits"])
def test_a_row_is_found_by_name_and_keeps_its_types(
    ending: str, table: Table, tmp_path: Path
) -> None:
    path = tmp_path / f"sample.{ending}"
    if ending == "parquet":
        table.to_pandas().to_parquet(path)
    else:
        table.write(path)
    unit = ObjectTable(file=path, name="object", append=COLUMNS)
    types = [c.type for c in unit.output_columns()]
    assert types == ["boolean", "double", "bigint", "string", "boolean"]
    batch = curves("SN1", "001", "absent")
    found = {k: v.to_pylist() for k, v in unit.process_batch(batch).items()}
    assert found == {
        "matched": [True, True, False],
        "z": [None, 0.1, None],
        "n": [4, 3, None],
        "kind": ["II", "Ia", None],
        "host": [False, True, None],
    }
    # one by one is the same
    for i, curve in enumerate(batch):
        one = unit.process(curve)
        assert {k: one.get(k) for k in found} == {k: v[i] for k, v in found.items()}


def test_columns_can_be_called_otherwise(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path / "sample.csv")
    unit = ObjectTable(file=tmp_path / "sample.csv", name="object", append={"redshift": "z"})
    assert unit.process(LightCurve.of(name="001", jd=[1.0]))["redshift"] == 0.1


def test_what_is_wrong_with_the_table_is_told(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    table.write(path)
    with pytest.raises(ConfigError, match=r"sample.csv: no column 'zz'; did you mean 'z'\?"):
        ObjectTable(file=path, name="object", append=["zz"]).output_columns()
    path.write_text("object,z\nSN1,0.1\nSN2,0.3\nSN1,0.2\n")
    with pytest.raises(ConfigError, match="'SN1' has two rows, 1 and 3, that differ"):
        ObjectTable(file=path, name="object", append=["z"]).output_columns()
    # two rows that say the same are one
    path.write_text("object,z\nSN1,0.1\nSN1,0.1\n")
    found = ObjectTable(file=path, name="object", append=["z"]).process_batch(curves("SN1"))
    assert found["z"].to_pylist() == [0.1]
