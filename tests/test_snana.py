"""SNANA's light curves: what astropy and a plain reading of the text say of the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from ampel_spark.archive.reading.photometry import objects_of, read_photometry
from ampel_spark.archive.reading.tables import read_table
from ampel_spark.dialects import DialectError
from ampel_spark.job.configuration.load import load_survey
from ampel_spark.tabular import beside, read_file

ONE = """SURVEY: LSST
SNID: {name}
RA: 150.1 deg   # a comment
DECL: -2.2 deg
MWEBV: 0.021 +- 0.003 MW E(B-V)
REDSHIFT_FINAL: 0.0412 +- 0.0002 (CMB)
PEAKMJD: 60311.5
HOSTGAL_OBJID: 1237680117417050117
NOBS: 2
VARLIST: MJD FLT FIELD FLUXCAL FLUXCALERR MAG
OBS: 60310.25 g NULL 512.25 14.5 20.73
OBS: 60313.25 r NULL -9.00 15.00 99.00
END:
"""


def objects(path: Path) -> dict[str, Any]:
    survey = load_survey("snana")
    packets, bad = objects_of(read_photometry(str(path), survey), survey)
    assert bad == []
    return {packet.name: packet for packet in packets}


def test_text_has_a_head_whose_values_go_with_the_object(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text(ONE.format(name="007") + ONE.format(name="31b"))
    found = objects(path)
    assert sorted(found) == ["007", "31b"]
    packet = found["007"]
    assert [(p[3], p[8], p[9], p[10]) for p in packet.forced] == [
        ("lsstg", 512.25, 14.5, 27.5), ("lsstr", -9.0, 15.0, 27.5)
    ]  # fmt: skip
    assert (packet.ra, packet.dec) == (150.1, -2.2)
    own = json.loads(packet.own)
    assert (own["redshift"], own["mwebv"], own["jd_peak"]) == (0.0412, 0.021, 2460312.0)
    assert own["header"] == {
        "SNID": "007", "SURVEY": "LSST", "RA": 150.1, "DECL": -2.2, "MWEBV": 0.021,
        "MWEBV_ERR": 0.003, "REDSHIFT_FINAL": 0.0412, "REDSHIFT_FINAL_ERR": 0.0002,
        "PEAKMJD": 60311.5, "HOSTGAL_OBJID": 1237680117417050117, "NOBS": 2,
    }  # fmt: skip


def test_a_line_of_another_width_costs_itself_and_a_nameless_object_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.dat"
    path.write_text(ONE.format(name="a").replace("512.25 14.5 20.73", "512.25 14.5"))
    read = read_table(path)
    assert (len(read), [line for line, _ in read.odd]) == (1, [11])
    path.write_text(ONE.replace("SNID", "NAME"))
    with pytest.raises(DialectError, match="needs a line 'SNID:'"):
        read_file(path, "ascii")


def fits_pair(folder: Path, ending: str = "FITS") -> Path:
    head = Table({
        "SNID": ["a", "b", "none"], "PTROBS_MIN": [1, 4, 9], "PTROBS_MAX": [2, 6, 8],
        "RA": [150.1, 10.0, 0.0], "DEC": [2.2, -1.0, 0.0], "MWEBV": [0.02, -9.0, 0.1],
        "REDSHIFT_HELIO": [0.04, -9.0, 0.1], "PEAKMJD": [60311.0, -9.0, 60000.0],
    })  # fmt: skip
    phot = Table({
        "MJD": [60310.0, 60311, -777, 60310, 60312, 60313, -777],
        "BAND": ["g", "r", "-", "g", "g", "i", "-"],
        "FLUXCAL": [1.0, 2, -777, 3, 4, 5, -777], "FLUXCALERR": [1.0, 1, -777, 1, 1, 1, -777],
    })  # fmt: skip
    head.write(folder / f"MY_HEAD.{ending}", format="fits", overwrite=True)
    phot.write(folder / f"MY_PHOT.{ending}", format="fits", overwrite=True)
    return folder / f"MY_PHOT.{ending}"


@pytest.mark.parametrize("ending", ["FITS", "fits", "FITS.gz"])
def test_a_fits_pair_gives_the_objects_of_its_head(ending: str, tmp_path: Path) -> None:
    path = fits_pair(tmp_path, ending)
    found = objects(path)
    assert {name: [p[8] for p in packet.forced] for name, packet in found.items()} == {
        "a": [1.0, 2.0], "b": [3.0, 4.0, 5.0]
    }  # fmt: skip
    own = {name: json.loads(packet.own) for name, packet in found.items()}
    assert (own["a"]["redshift"], own["a"]["mwebv"], own["a"]["jd_peak"]) == (
        0.04, 0.02, 2460311.5
    )  # fmt: skip
    assert {"redshift", "mwebv", "jd_peak"} & {*own["b"]} == set()  # -9 is nothing
    assert own["b"]["header"]["REDSHIFT_HELIO"] == -9.0
    assert beside(path) == tmp_path / f"MY_HEAD.{ending}"


def test_a_phot_file_without_its_own_head_is_refused(tmp_path: Path) -> None:
    path = fits_pair(tmp_path)
    head = Table.read(tmp_path / "MY_HEAD.FITS")
    for low, high, said in ((1, 9, "rows 1 to 9 of object a"), (1, 1, "row 2, and 0 others")):
        head["PTROBS_MIN"][0], head["PTROBS_MAX"][0] = low, high
        head.write(tmp_path / "MY_HEAD.FITS", format="fits", overwrite=True)
        with pytest.raises(DialectError, match=said):
            read_file(path, "fits")
    (tmp_path / "MY_HEAD.FITS").unlink()
    with pytest.raises(DialectError, match=r"there is none beside it \(MY_HEAD.FITS\)"):
        read_file(path, "fits")
    assert np.isfinite(Table.read(path)["MJD"]).all()
