"""The nearest row of a catalogue as a unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.errors import ConfigError, UnitError
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal, Unit
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of


def curve(ra: float | None, dec: float = 0.0) -> LightCurve:
    return LightCurve.of(jd=[1.0]) if ra is None else LightCurve.of(jd=[1.0], ra=[ra], dec=[dec])


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "RA": [10.0, 10.001, 359.9999],
            "DEC": [0.0, 0.0, 0.0],
            "z": [0.01, None, 0.03],
            "n_spec": [4, 5, None],
            "name": ["NGC 1", "NGC 2", None],
        }
    )
    parquet.write_table(table, tmp_path / "hosts.parquet")
    return tmp_path


def unit_of(hosts: Path, **config: Any) -> Unit:
    given = {"catalog": "hosts.parquet", "ra": "RA", "dec": "DEC", "radius": 5.0} | config
    return build("catalog_match", given, hosts)


def test_the_nearest_row_gives_its_columns(hosts: Path) -> None:
    unit = unit_of(hosts, append=["z", "n_spec"])
    row = unit.process(curve(10.0002))
    assert row["distance"] == pytest.approx(0.72)
    assert {k: v for k, v in row.items() if k != "distance"} == {
        "matched": True, "n_within": 2, "z": 0.01, "n_spec": 4,
    }  # fmt: skip
    assert {c.name: c.type for c in unit.output_columns()} == {
        "matched": "boolean", "distance": "double", "n_within": "int",
        "z": "double", "n_spec": "bigint",
    }  # fmt: skip


def test_a_match_goes_across_right_ascension_zero(hosts: Path) -> None:
    row = unit_of(hosts, append=["z"]).process(curve(0.0001))
    assert (row["matched"], row["z"]) == (True, 0.03)


def test_an_object_that_nothing_is_near_to_has_a_row_that_says_so(hosts: Path) -> None:
    row = unit_of(hosts, append=["z"]).process(curve(11.0))
    assert row == {"matched": False, "distance": None, "n_within": 0, "z": None}


def test_columns_can_be_given_other_names(hosts: Path) -> None:
    unit = unit_of(hosts, append={"host": "name", "host_z": "z"})
    assert unit.process(curve(10.0))["host"] == "NGC 1"
    with pytest.raises(UnitError, match="'name' is a column that every unit's table has"):
        unit_of(hosts, append=["name"])


def test_the_fast_form_says_what_the_plain_form_says(hosts: Path) -> None:
    unit = unit_of(hosts, append={"z": "z", "n_spec": "n_spec", "host": "name"})
    curves = [curve(ra) for ra in (10.0, 10.001, 10.0004, 0.0, 200.0, None)]
    fast = unit.process_batch(LightCurveBatch.of(curves))
    assert fast is not None
    columns = {
        name: values.to_pylist() for name, values in fast.items() if isinstance(values, pa.Array)
    }
    for i, one in enumerate(curves[:-1]):
        row = dict(unit.process(one))
        assert row.pop("distance") == pytest.approx(columns["distance"][i], abs=1e-9)
        assert row == {name: columns[name][i] for name in row}
        assert fast["status"][i] == 0
    with pytest.raises(Refusal) as refused:
        unit.process(curves[-1])
    assert all(values[-1] is None for values in columns.values())
    assert (fast["status"][-1], fast["message"][-1]) == (refused.value.status, str(refused.value))


def test_the_content_of_the_catalogue_is_an_input_and_no_part_of_the_trace(hosts: Path) -> None:
    unit = unit_of(hosts, append=["z"])
    batch = LightCurveBatch.of([curve(10.0), curve(200.0), curve(None)])
    before, read = trace_of(unit, "match").trace_id, unit.inputs(batch)
    assert unit.process(curve(10.0))["z"] == 0.01
    table = parquet.read_table(hosts / "hosts.parquet")
    changed = table.set_column(2, "z", pa.array([0.5, 0.5, 0.5]))
    parquet.write_table(changed, hosts / "hosts.parquet")
    assert trace_of(unit, "match").trace_id == before
    after = unit.inputs(batch)
    assert read is not None
    assert after is not None
    assert (after[0] != read[0], after[2] == read[2]) == (True, True)
    assert unit.process(curve(10.0))["z"] == 0.5
    assert trace_of(unit_of(hosts, radius=6), "match").trace_id != before


def test_wrong_columns_are_told_before_anything_runs(hosts: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'zz'; did you mean 'z'"):
        unit_of(hosts, append=["zz"])
    with pytest.raises(ConfigError, match=r"nowhere\.csv is not there"):
        unit_of(hosts, catalog="nowhere.csv")
    with pytest.raises(ConfigError, match=r"config\.radius = 0: input should be greater than 0"):
        unit_of(hosts, radius=0)
