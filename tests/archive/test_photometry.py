"""Photometry tables: objects as packets, points as what was measured, settings held to the file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sncosmo

from ampel_spark.archive.files import find_files
from ampel_spark.archive.photometry import objects_of, read_photometry
from ampel_spark.archive.readers import name_patterns, reader_of
from ampel_spark.archive.rows import Packet
from ampel_spark.archive.surveys import Survey
from ampel_spark.archive.ztf import POINT_COLUMNS
from ampel_spark.errors import ArchiveError
from ampel_spark.job.configuration.load import load_survey

NAMES = [name for name, _ in POINT_COLUMNS]
FLUXES: dict[str, Any] = {
    "object": "name",
    "time": {"column": "mjd", "format": "mjd"},
    "band": {"column": "band", "names": {"g": "ztfg", "r": "ztfr"}},
    "flux": "flux",
    "fluxerr": "error",
    "zp": 25.0,
}
MAGS: dict[str, Any] = {
    "object": {"value": "SN2011fe"},
    "time": "jd",
    "band": "band",
    "mag": "mag",
    "magerr": "error",
    "limit": "limit",
    "zpsys": "vega",
}


def survey(photometry: dict[str, Any], **more: Any) -> Survey:
    return Survey.model_validate(
        {"name": "mine", "reader": "photometry", "access": {"ALL": 1}, "photometry": photometry}
        | more
    )


def read_objects(path: str, settings: Survey) -> tuple[list[Packet], list[dict[str, Any]]]:
    return objects_of(read_photometry(path, settings), settings)


def write(path: Path, header: str, *rows: str) -> str:
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def points(packet: Any) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, p, strict=True)) for p in [*packet.points, *packet.forced]]


HEADER = "name,mjd,band,flux,error"


def test_fluxes_become_forced_measurements_of_each_object(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEADER, "b,58001.5,r,-3,0.5", "a,58000.25,g,2,0.5",
                 "b,58000.25,g,4,0.5")  # fmt: skip
    packets, bad = read_objects(path, survey(FLUXES))
    assert bad == []
    found = {p.name: p for p in packets}
    assert sorted(found) == ["a", "b"]
    b = points(found["b"])
    assert [(p["kind"], p["jd"], p["band"], p["flux"], p["zp"], p["sign"]) for p in b] == [
        ("forced", 2458000.75, "ztfg", 4.0, 25.0, 1),
        ("forced", 2458002.0, "ztfr", -3.0, 25.0, -1),
    ]
    assert found["b"].jd == 2458002.0
    # ids lie where no survey's are: no alert of a survey is negative, no stock of ZTF above 2**38
    assert all(p.alert_id < 0 and p.stock >= 1 << 62 for p in packets)
    assert all(p["datapoint_id"] < -(1 << 62) for p in b)
    assert len({p["datapoint_id"] for p in b}) == 2


def test_magnitudes_become_detections_and_upper_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "jd,band,mag,error,limit", "2455800.5,bessellb,10.5,0.02,",
                 "2455790.5,bessellb,,,18.5", "2455795.5,bessellb,,,")  # fmt: skip
    packets, _ = read_objects(path, survey(MAGS))
    (packet,) = packets
    found = points(packet)
    assert [(p["kind"], p["jd"], p["mag"], p["limit_mag"], p["zpsys"]) for p in found] == [
        ("upper_limit", 2455790.5, None, 18.5, "vega"),
        ("detection", 2455800.5, 10.5, None, "vega"),
    ]
    assert found[1]["flux"] == pytest.approx(10 ** (0.4 * 14.5))
    assert found[1]["fluxerr"] == pytest.approx(found[1]["flux"] * 0.02 / 1.0857362)
    # detections are positive, as history counts them
    assert found[0]["datapoint_id"] < 0 < found[1]["datapoint_id"]
    assert json.loads(packet.own or "")["dropped_rows"] == 1


def test_rows_in_any_order_give_the_same_packet(tmp_path: Path) -> None:
    rows = [f"a,{58000 + i % 3},g,{i},0.5" for i in range(6)]
    settings = survey(FLUXES)
    one, _ = read_objects(write(tmp_path / "1.csv", HEADER, *rows), settings)
    two, _ = read_objects(write(tmp_path / "2.csv", HEADER, *rows[::-1]), settings)
    assert one[0].forced == two[0].forced
    assert one[0].alert_id == two[0].alert_id
    # two measurements at one time in one band are two points
    assert len({p[0] for p in one[0].forced}) == 6


def test_copies_of_rows_count_once_and_bad_rows_are_accounted_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEADER, "a,58000,g,2,0.5", "a,58000,g,2,0.5",
                 "a,58001,g,nan,0.5", "a,58002,g,2,0", "a,nan,g,2,0.5", ",58003,g,2,0.5",
                 "a,58004,g,2,")  # fmt: skip
    packets, bad = read_objects(path, survey(FLUXES))
    found = points(packets[0])
    # what is not usable keeps its status, and never becomes a flux
    assert [(p["flux"], p["procstatus"]) for p in found] == [
        (2.0, None),
        (None, "no flux"),
        (None, "fluxerr not above 0"),
        (None, "no fluxerr"),
    ]
    assert packets[0].jd == 2458000.5  # of the last usable point
    assert [(b["member"], b["reason"]) for b in bad] == [
        ("row 5", "bad_value"),
        ("row 6", "bad_value"),
    ]
    assert "no name" in bad[1]["detail"]
    own = json.loads(packets[0].own or "")
    assert (own["rows"], own["repeated_rows"], own["unusable_rows"]) == (5, 1, 3)


def test_flags_take_the_flux_and_leave_the_status(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"{HEADER},flag,grade,chi", "a,58000,g,2,0.5,1,good,1",
                 "a,58001,g,2,0.5,2,good,1", "a,58002,g,2,0.5,0,poor,1",
                 "a,58003,g,2,0.5,0,good,9")  # fmt: skip
    rules = [{"column": "flag", "bits": 2}, {"column": "grade", "values": ["poor"]},
             {"column": "chi", "outside": [0, 5]}]  # fmt: skip
    packets, _ = read_objects(path, survey(FLUXES | {"unusable": rules}))
    assert [(p["flux"], p["procstatus"]) for p in points(packets[0])] == [
        (2.0, None),
        (None, "flag 2"),
        (None, "grade poor"),
        (None, "chi 9"),
    ]


def test_an_issue_makes_another_alert_of_the_same_points(tmp_path: Path) -> None:
    for year, flux in (("2020-01-01", 2.0), ("2021-01-01", 2.5)):
        folder = tmp_path / year
        folder.mkdir()
        write(folder / "t.csv", HEADER, f"a,58000,g,{flux},0.5")
    settings = survey(FLUXES | {"issued": {"path": r"/(\d{4}-\d\d-\d\d)/"}})
    (one,), _ = read_objects(str(tmp_path / "2020-01-01" / "t.csv"), settings)
    (two,), _ = read_objects(str(tmp_path / "2021-01-01" / "t.csv"), settings)
    assert one.forced[0][0] == two.forced[0][0]
    assert one.alert_id != two.alert_id
    # what a table shows is known from its issue on: JD of 2020-01-01, 0 h
    assert (one.jd, two.jd) == (2458849.5, 2459215.5)


def test_positions_redshifts_and_channels_come_along(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"{HEADER},RA,Dec,z,ccd", "a,58000,g,2,0.5,10,20,0.1,3")
    more = {"ra": "RA", "dec": "Dec", "redshift": "z", "rcid": "ccd", "field": 7}
    packets, _ = read_objects(path, survey(FLUXES | more))
    (p,) = points(packets[0])
    assert (p["ra"], p["dec"], p["rcid"], p["field"]) == (10.0, 20.0, 3, 7)
    assert (packets[0].ra, packets[0].dec) == (10.0, 20.0)
    assert json.loads(packets[0].own or "")["redshift"] == 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"flux": "flx"}, r"no column 'flx'; did you mean 'flux'\?"),
        ({"band": {"column": "band", "names": {"G": "ztfg", "r": "ztfr"}}},
         r"band 'g' in row 1 is not among photometry.band.names"),
        ({"time": "mjd"}, r"such as 58000, are no JD: give 'format: mjd' in photometry.time"),
        ({"ids": "ztf"}, r"object 'a' has no id of kind 'ids: ztf'"),
        ({"object": {"file": r"(SN\d+)"}}, r"no object in its name: '\(SN\\\\d\+\)' does not fit"),
        ({"issued": "yesterday"}, r"no column 'yesterday'"),
        ({"issued": {"value": "yesterday"}}, r"issued is 'yesterday', no date"),
        ({"zp": {"meta": "ZP"}}, r"no 'ZP' in its header"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_told_with_file_and_cure(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", HEADER, "a,58000,g,2,0.5")
    with pytest.raises(ArchiveError, match=rf"t\.csv: .*{told}"):
        read_objects(path, survey(FLUXES | change))


def test_files_without_rows_or_with_other_columns_are_rows_of_the_reader(tmp_path: Path) -> None:
    write(tmp_path / "empty.csv", HEADER)
    write(tmp_path / "other.csv", "name,jd", "a,2458000.5")
    write(tmp_path / "good.csv", HEADER, "a,58000,g,2,0.5", "b,58000,g,2,0.5", "c,,g,2,0.5")
    (tmp_path / "zero.csv").touch()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    files = [str(p) for p in find_files([tmp_path], ("*.csv", "*.parquet"))]
    rows = [r for b in reader_of(survey(FLUXES))(files) for r in b.to_pylist()]
    assert Counter(r["row"] for r in rows) == {"packet": 2, "bad": 1, "broken": 4, "end": 5}
    assert {Path(r["file"]).name: r["reason"] for r in rows if r["row"] == "broken"} == {
        "cut.parquet": "broken_archive",
        "empty.csv": "empty_archive",
        "other.csv": "settings",
        "zero.csv": "empty_archive",
    }
    assert {Path(r["file"]).name: r["seen"] for r in rows if r["row"] == "end"} == {
        "cut.parquet": 0,
        "empty.csv": 0,
        "good.csv": 3,
        "other.csv": 0,
        "zero.csv": 0,
    }


def test_the_first_data_release_has_every_distinct_row(shared_data: Path) -> None:
    settings = load_survey("ztf_snia_dr1")
    files = find_files([shared_data / "ztf_snia_dr1_open"], name_patterns(settings))
    assert len(files) == 56
    for file in files:
        (packet,), bad = read_objects(str(file), settings)
        with file.open() as stream:
            there = {tuple(row.values()) for row in csv.DictReader(stream)}
        assert (packet.name, bad) == (file.stem, [])
        assert len(packet.forced) == len(there)
        table = pd.read_csv(file).drop_duplicates()
        assert sum(p[8] for p in packet.forced) == pytest.approx(table["flux"].sum(), rel=1e-12)
        assert Counter(p[3] for p in packet.forced) == {
            f"ztf{band[-1]}": n for band, n in table["band"].value_counts().items()
        }


def test_snfit_light_curves_are_those_that_sncosmo_reads(packed_data: Path) -> None:
    settings = load_survey("jla")
    files = find_files([packed_data / "jla"], name_patterns(settings))
    assert len(files) == 365
    total = 0
    for file in files[::12]:
        (packet,), _ = read_objects(str(file), settings)
        theirs = sncosmo.read_lc(str(file), format="salt2")
        assert len(packet.forced) == len(theirs)
        order = np.lexsort((theirs["Flux"], theirs["Filter"].astype(str), theirs["Date"]))
        mine = sorted((p[2] - 2400000.5, p[3], p[8], p[9], p[10]) for p in packet.forced)
        assert np.allclose([m[0] for m in mine], theirs["Date"][order], atol=1e-8, rtol=0)
        for k, column in ((2, "Flux"), (3, "Fluxerr"), (4, "ZP")):
            assert sorted(m[k] for m in mine) == sorted(theirs[column])
        own = json.loads(packet.own or "")
        assert own["redshift"] == float(theirs.meta["Z_HELIO"])
        total += len(packet.forced)
    assert total > 2000
