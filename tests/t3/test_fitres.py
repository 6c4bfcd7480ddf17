"""FITRES, ECSV and light curves for sncosmo: written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import sncosmo
from astropy.table import Table

from ampel_spark.lightcurve import FORCED, UPPER_LIMIT, LightCurve
from ampel_spark.t3.export import export
from ampel_spark.t3.fitres import read_fitres

TABLE = pa.table(
    {
        "rank": pa.array([1, 2], pa.int32()),
        "name": ["ZTF18aabsyqp", "SN 2011fe"],
        "state_id": ["s1", "s2"],
        "z": [0.0766, None],
        "t0": [2458183.50006, 2455814.9],
        "t0_err": [0.31, 0.02],
        "x0": [5.862e-4, 0.0],
        "x0_err": [6.5e-5, None],
        "x1": [0.5560872020951676, -9.5],
        "c": [0.19, float("nan")],
        "ndof": pa.array([53, None], pa.int64()),
        "host.distance": [1.5, 2.0],
        "quality": ["good", None],
        "fitted": [["t0", "x0", "x1", "c"], None],
        "covariance": [list(np.arange(16.0)), None],
    }
)
CURVES = {
    "s1": LightCurve.of(
        "ZTF18aabsyqp", jd=[1.5, 2.5, 3.5], flux=[10.0, 20.0, np.nan], fluxerr=[1.0, 2.0, np.nan],
        zp=25.0, sign=[1, -1, 0], band=["ztfg", "ztfr", "ztfg"], kind=[FORCED, FORCED, UPPER_LIMIT],
    ),
    "s2": LightCurve.of("SN 2011fe", jd=[9.0], flux=5.0, fluxerr=0.5, zp=25.0, band="ztfr", sign=1),
}  # fmt: skip
UNITS = {"t0": "d", "x1": ""}
MEANINGS = {"t0": "JD of maximum", "x1": "stretch"}


def written(tmp_path: Path, kind: str) -> Path:
    return export(
        TABLE, tmp_path / f"sn.{kind}", kind, run_id="run-7", units=UNITS, descriptions=MEANINGS,
        curves=lambda: CURVES,
    )  # fmt: skip


def test_a_fitres_table_comes_back_under_snana_s_names(tmp_path: Path) -> None:
    rows = read_fitres(written(tmp_path, "fitres")).to_pylist()
    first, second = rows
    assert (first["CID"], second["CID"]) == ("ZTF18aabsyqp", "SN_2011fe")
    assert first["zHEL"] == 0.0766
    assert first["PKMJD"] == 2458183.50006 - 2400000.5
    assert first["x1"] == 0.5560872020951676
    assert first["mB"] == 10.635 - 2.5 * np.log10(5.862e-4)
    assert first["NDOF"] == 53
    assert first["host_distance"] == 1.5
    assert first["COV_x1_c"] == 11.0
    assert first["COV_x1_x0"] == 9.0
    assert first["quality"] == "good"
    for name in ("zHEL", "mB", "c", "NDOF", "COV_x1_c", "quality", "x0ERR"):
        assert second[name] is None
    assert second["x1"] == -9.5


def test_a_fitres_table_has_snana_s_lines(tmp_path: Path) -> None:
    lines = written(tmp_path, "fitres").read_text().splitlines()
    head = next(line for line in lines if line.startswith("VARNAMES:"))
    assert head.split()[1] == "CID"
    n = int(next(line for line in lines if line.startswith("NVAR:")).split()[1])
    rows = [line.split() for line in lines if line.startswith("SN:")]
    assert [len(row) - 1 for row in rows] == [n, n]
    assert len(head.split()) - 1 == n
    assert "# run run-7 of ampel_spark" in lines


def test_an_ecsv_table_comes_back_with_units_meanings_and_gaps(tmp_path: Path) -> None:
    found = Table.read(written(tmp_path, "ecsv"))
    assert found.meta["run_id"] == "run-7"
    assert str(found["t0"].unit) == "d"
    assert found["x1"].description == "stretch"
    assert found["x1"][0] == 0.5560872020951676
    assert found["z"].mask.tolist() == [False, True]
    assert found["ndof"].mask.tolist() == [False, True]
    assert found["c"].mask.tolist() == [False, True]
    assert found["name"].tolist() == ["ZTF18aabsyqp", "SN 2011fe"]


def test_light_curves_are_read_by_sncosmo(tmp_path: Path) -> None:
    folder = written(tmp_path, "sncosmo")
    assert sorted(p.name for p in folder.iterdir()) == ["SN_2011fe.dat", "ZTF18aabsyqp.dat"]
    light = sncosmo.read_lc(str(folder / "ZTF18aabsyqp.dat"))
    assert light["time"].tolist() == [1.5, 2.5]
    assert light["flux"].tolist() == [10.0, -20.0]
    assert light["band"].tolist() == ["ztfg", "ztfr"]
    assert light["zpsys"].tolist() == ["ab", "ab"]
    assert (light.meta["z"], light.meta["run_id"]) == (0.0766, "run-7")
    photometry = sncosmo.photdata.photometric_data(light)
    assert photometry.flux.tolist() == [10.0, -20.0]
    assert "z" not in sncosmo.read_lc(str(folder / "SN_2011fe.dat")).meta
