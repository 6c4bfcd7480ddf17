"""The units of the package in the runner: declared columns and types, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA
from ampel_spark.t2 import LightCurve
from ampel_spark.t2.registry import UNITS, build
from ampel_spark.t2.runner import compute_batch, result_schema
from tests.t2.models import CLASSES, write_models
from tests.t2.supernovae import injected, truth

CURVES = [injected(truth()), LightCurve.of(name="none", jd=[1.0]), injected(truth(), fluxerr=1e9)]
CONFIG: dict[str, dict[str, Any]] = {
    "kilonovaness": {"take": {"z": "host.z", "host_arcsec": "host.distance"}},
    "classify": {
        "models": {name: f"{name}.json" for name in CLASSES},
        "features": "host",
        "redshift": {"unit": "host"},
    },
    "light_curve_features": {"bands": ["ztfg", "ztfr"]},
    "lens_colours": {"fit": "host", "redshift": "host", "z_column": "z"},
    "lens_evidence": {"redshift": {"unit": "host", "column": "z"}},
    "event_match": {"catalog": "events.json"},
    "light_curve_summary": {},
    "milky_way_dust": {"map": "quickstart"},
    "catalog_match": {"catalog": "hosts.csv", "radius": 5, "append": ["z", "type"]},
    "object_header": {},
    "object_table": {"file": "sample.csv", "name": "SN", "append": {"z": "z_hel"}},
    "redshift_digest": {"matches": ["SDSS_spec"]},
    "salt_fit": {"redshift": {"unit": "host", "column": "z"}, "model_covariance": False},
    "template_fit": {"redshift": {"unit": "host", "column": "z"}, "template_files": ["bump.dat"]},
}
EVENT = (
    '{"event_name": "IC1", "ra": 150.1, "dec": 2.0, "ra_dec_error": 1.0,'
    ' "trigger_time": "2024-01-01T00:00:00Z"}'
)
WAVE = range(3000, 9000, 200)


def write_bump(folder: Path) -> None:
    """Write a template that rises and falls."""
    rows_of = [(p, w, 1e-15 * np.exp(-((p / 15) ** 2))) for p in range(-20, 60) for w in WAVE]
    np.savetxt(folder / "bump.dat", rows_of)


def batch() -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "state_id": [f"{i:032x}" for i in range(len(CURVES))],
        "stock": [c.stock for c in CURVES],
        "name": [c.name for c in CURVES],
        "input_hash": [""] * len(CURVES),
        "tie_SDSS_spec": [{"status": 0, "matched": True, "z": 0.06, "distance": 1.0}] * len(CURVES),
        "tie__header": [{"header": '{"redshift": 0.06, "mwebv": 0.02}'}] * len(CURVES),
        "tie_host": [{"status": 0, "z": 0.06, "t0": 2459000.0, "ndet": 3, "distance": None}]
        * len(CURVES),
    }
    for name in POINT_FIELDS:
        kind = LIGHT_CURVE_SCHEMA.field(f"lc_{name}").type
        lists = [[None if v != v else v for v in c.points[name].tolist()] for c in CURVES]
        columns[f"lc_{name}"] = pa.array(lists, kind)
    return pa.RecordBatch.from_pydict(columns)


@pytest.mark.parametrize("name", sorted(UNITS))
def test_results_have_the_declared_columns_and_types(name: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text("ra,dec,z,type\n150,2,0.06,Sb\n")
    (tmp_path / "sample.csv").write_text(f"SN,z_hel\n{CURVES[0].name},0.06\n")
    (tmp_path / "events.json").write_text(EVENT)
    if name == "template_fit":
        write_bump(tmp_path)
    if name == "classify":
        write_models(tmp_path)
    unit = build(name, CONFIG[name], tmp_path)
    result = compute_batch(unit, batch(), "0" * 32)
    assert result.schema == result_schema(unit.output_columns())
    rows = result.to_pylist()
    assert rows[0]["status"] == 0
    declared = [column.name for column in unit.output_columns()]
    filled = [name for name in declared if rows[0][name] is not None]
    assert len(filled) > len(declared) / 2
    # the second has one point without a position, the third no significant one
    expected = {
        "milky_way_dust": [-2008, 0],
        "catalog_match": [-2008, 0],
        "classify": [0, 0],
        "event_match": [-2008, 0],
        "light_curve_features": [1, 1],
        "salt_fit": [1, 2],
        "lens_evidence": [1, 2],
        "template_fit": [1, 2],
    }
    assert [row["status"] for row in rows[1:]] == expected.get(name, [0, 0])
    assert all(row["message"] for row in rows if row["status"])


def test_the_fit_s_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    columns = {
        c.name: c.type for c in build("salt_fit", CONFIG["salt_fit"], tmp_path).output_columns()
    }
    for name in ("z", "t0", "x0", "x1", "c"):
        assert columns[name] == columns[f"{name}_err"] == "double"
    for name in ("covariance", "chisq", "ndof", "n_points", "bands", "mwebv", "model", "at_bound"):
        assert name in columns


def test_a_covariance_is_that_of_the_errors(tmp_path: Path) -> None:
    unit = build("salt_fit", CONFIG["salt_fit"], tmp_path)
    row = compute_batch(unit, batch(), "0" * 32).to_pylist()[0]
    covariance = np.reshape(row["covariance"], (4, 4))
    np.testing.assert_allclose(covariance, covariance.T)
    errors = [row[f"{name}_err"] for name in row["fitted"]]
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), errors, rtol=0.05)
