"""Photometry tables: objects as packets, points as what was measured, settings held to the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sncosmo

from ampel_spark.archive.reading.files import find_files
from ampel_spark.archive.reading.photometry import objects_of, read_photometry
from ampel_spark.archive.reading.readers import name_patterns, reader_of
from ampel_spark.archive.reading.rows import Packet
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
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
        "zero.csv": "broken_archive",
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


SIGNED: dict[str, Any] = {
    "object": "oid",
    "time": {"column": "mjd", "format": "mjd"},
    "band": {"column": "fid", "names": {"1": "ztfg", "2": "ztfr"}},
    "mag": "mag",
    "magerr": "err",
    "limit": "limit",
}


def test_negative_differences_have_a_negative_sign_and_flux(tmp_path: Path) -> None:
    """ALeRCE's exports (fluxes by 10^(-0.4 (m - 25))) and Fink's words."""
    for words in (
        ("1", "-1", "0"),
        ("t", "f", "F"),
        ("True", "False", "n"),
        ("1.0", "-1.0", "0.0"),
    ):
        rows = [f"a,{58000 + i},1,{m},0.06,20.5,{w}" for i, (m, w) in
                enumerate(zip((18.51, 18.72, 19.05), words, strict=True))]  # fmt: skip
        path = write(tmp_path / "t.csv", "oid,mjd,fid,mag,err,limit,i:isdiffpos", *rows)
        for more in ({}, {"sign": "i:isdiffpos"}):
            (packet,), bad = read_objects(path, survey(SIGNED | more))
            found = points(packet)
            assert bad == []
            assert [p["sign"] for p in found] == [1, -1, -1]
            assert [round(p["flux"], 2) for p in found] == [394.46, -325.09, -239.88]
            assert all(p["fluxerr"] > 0 and p["mag"] > 0 for p in found)
        (packet,), _ = read_objects(path, survey(SIGNED | {"sign": 1}))
        assert [p["sign"] for p in points(packet)] == [1, 1, 1]


def test_a_sign_that_is_no_word_costs_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "oid,mjd,fid,mag,err,limit,isdiffpos",
                 "a,58000,1,18,0.1,20,t", "a,58001,1,18,0.1,20,", "a,58002,1,18,0.1,20,maybe",
                 "a,58003,1,,,20,")  # fmt: skip
    (packet,), bad = read_objects(path, survey(SIGNED))
    assert [p["kind"] for p in points(packet)] == ["detection", "upper_limit"]
    assert [(b["member"], b["detail"][:15]) for b in bad] == [
        ("row 2", "a: sign '' is n"), ("row 3", "a: sign 'maybe'")
    ]  # fmt: skip
    path = write(tmp_path / "u.csv", "oid,mjd,fid,mag,err,limit,isdiffpos",
                 "a,58000,1,18,0.1,20,up", "a,58001,1,18,0.1,20,down")  # fmt: skip
    with pytest.raises(ArchiveError, match=r"sign 'up' is none of t, 1, true, .*photometry.sign"):
        read_objects(path, survey(SIGNED))
    path = write(tmp_path / "v.csv", "oid,mjd,fid,mag,err,limit,isdiffpos,i:isdiffpos")
    with pytest.raises(ArchiveError, match="isdiffpos and i:isdiffpos may both be the sign"):
        read_objects(path, survey(SIGNED))


def test_a_flagged_magnitude_is_neither_a_detection_nor_a_limit(tmp_path: Path) -> None:
    """Else the last non-detection of a supernova would be an image in which it shines."""
    path = write(tmp_path / "t.csv", "oid,mjd,fid,mag,err,limit,tag,rb",
                 "a,58000,1,,,20.4,upperlim,", "a,58001,1,18,0.1,20,valid,0.9",
                 "a,58002,1,17.1,0.4,17.4,badquality,0.9", "a,58003,1,18,0,20,valid,0.9",
                 "a,58004,1,,,20.4,badquality,", "a,58005,1,18,0.1,20,valid,0.1")  # fmt: skip
    rules = [{"column": "tag", "values": ["badquality"]}, {"column": "rb", "outside": [0.3, 1]}]
    (packet,), bad = read_objects(path, survey(SIGNED | {"unusable": rules}))
    assert bad == []
    assert [(p["kind"], p["jd"] - 2458000.5) for p in points(packet)] == [
        ("upper_limit", 0.0), ("detection", 1.0)
    ]  # fmt: skip
    assert json.loads(packet.own or "")["dropped_rows"] == 4


@pytest.mark.parametrize(
    "word", ["-999", "-99.0", "99", "99.99", "-99999", "--", "inf", "null", "-"]
)
def test_values_that_stand_for_nothing_are_nothing(word: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "oid,mjd,fid,mag,err,limit", f"a,58000,1,{word},0.1,20",
                 f"a,58001,1,18,0.1,{word}")  # fmt: skip
    (packet,), bad = read_objects(path, survey(SIGNED))
    assert bad == []
    assert [(p["kind"], p["mag"], p["limit_mag"]) for p in points(packet)] == [
        ("upper_limit", None, 20.0), ("detection", 18.0, None)
    ]  # fmt: skip


def test_words_for_nothing_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEADER, "a,58000,g,-777,1", "a,58001,g,bad,1",
                 "a,58002,g,-99999,1", "a,58003,g,-9,1")  # fmt: skip
    (packet,), bad = read_objects(path, survey(FLUXES | {"missing": ["bad", -777]}))
    assert [p["flux"] for p in points(packet)] == [None, None, -99999.0, -9.0]
    (packet,), bad = read_objects(path, survey(FLUXES))
    assert [p["flux"] for p in points(packet)] == [-777.0, None, -9.0]
    assert [b["detail"] for b in bad] == ["a: flux is 'bad' in column 'flux': no number"]


IDS: dict[str, Any] = FLUXES | {"object": "oid"}


def test_ids_that_went_through_floats_are_refused(tmp_path: Path) -> None:
    """Two objects were one, with the points of both."""
    big = 313888635489222217
    table = {"mjd": [58000.0, 58001.0], "band": ["g", "g"], "flux": [1.0, 2.0], "error": [1.0, 1.0]}
    path = tmp_path / "t.parquet"
    pd.DataFrame({"oid": np.array([big, big + 1], float)} | table).to_parquet(path)
    for ids in ("name", "integer"):
        with pytest.raises(ArchiveError, match=r"id 3\.1388\d+e\+17 in column 'oid' went through"):
            read_objects(str(path), survey(IDS | {"ids": ids}))
    single = np.array([123456789, 123456790], np.float32)
    pd.DataFrame({"oid": single} | table).to_parquet(path)
    with pytest.raises(ArchiveError, match="which has no more than 2\\^24 whole numbers"):
        read_objects(str(path), survey(IDS))
    text = write(tmp_path / "t.csv", "oid,mjd,band,flux,error",
                 "3.138886354892222e+17,58000,g,1,1",
                 "3.138886354892222e+17,58001,g,1,1")  # fmt: skip
    with pytest.raises(ArchiveError, match="went through a floating-point number"):
        read_objects(text, survey(IDS))
    # exact ones, with a gap in the column, and floats that are small enough
    gaps = pd.DataFrame({"oid": pd.array([big, None], "Int64")} | table)
    gaps.to_parquet(path)
    (packet,), (bad,) = read_objects(str(path), survey(IDS | {"ids": "integer"}))
    assert (packet.stock, packet.name) == (big, str(big))
    assert "no name of an object" in bad["detail"]
    pd.DataFrame({"oid": [1002.0, 3.0]} | table).to_parquet(path)
    found, _ = read_objects(str(path), survey(IDS | {"ids": "integer"}))
    assert sorted(p.name for p in found) == ["1002", "3"]


def test_unsigned_ids_are_refused_as_numbers_and_exact_as_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "oid,mjd,band,flux,error", "9947579231887392768,58000,g,1,1",
                 "9947579231887392769,58000,g,1,1")  # fmt: skip
    with pytest.raises(ArchiveError, match=r"'9947579231887392768' has no id .*give 'ids: name'"):
        read_objects(path, survey(IDS | {"ids": "integer"}))
    found, _ = read_objects(path, survey(IDS))
    assert len({p.stock for p in found}) == 2


def test_positions_fields_and_channels_that_cannot_be_cost_their_rows(tmp_path: Path) -> None:
    rows = ["10,20,3", "725,20,3", "10,95,3", "-0.5,20,3", "10,20,1e12", "10,20,2.5", ",,"]
    path = write(tmp_path / "t.csv", f"{HEADER},ra,dec,rcid",
                 *(f"a,{58000 + i},g,2,0.5,{row}" for i, row in enumerate(rows)))  # fmt: skip
    (packet,), bad = read_objects(path, survey(FLUXES | {"ra": "ra", "dec": "dec", "rcid": "rcid"}))
    assert [p["ra"] for p in points(packet)] == [10.0, 359.5, None]
    assert [b["detail"].split(":")[1] for b in bad] == [
        " ra is 725.0", " dec is 95.0", " rcid is 1000000000000.0", " rcid is 2.5"
    ]  # fmt: skip


def test_programs_come_from_their_column_unless_a_number_is_given(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"{HEADER},programid", "a,58000,g,2,0.5,2",
                 "a,58001,g,2,0.5,1", "a,58002,g,2,0.5,")  # fmt: skip
    (packet,), bad = read_objects(path, survey(FLUXES))
    assert [p["programid"] for p in points(packet)] == [2, 1]
    assert (packet.programid, len(bad)) == (1, 1)
    (packet,), bad = read_objects(path, survey(FLUXES | {"programid": 1}))
    assert [p["programid"] for p in points(packet)] == [1, 1, 1]


def test_tables_of_services_are_read_as_they_are_downloaded(tmp_path: Path) -> None:
    """ATLAS's head, ZTF's forced photometry, IPAC tables: made-up numbers in their forms."""
    atlas = tmp_path / "job1.txt"
    atlas.write_text("###MJD m dm uJy duJy F err\n59801.5123 18.4 0.04 157 6 o 0\n"
                     "59801.5123 18.4 0.04 -33 6 o 1\n")  # fmt: skip
    spec: dict[str, Any] = {
        "object": {"file": r"(job\d+)"}, "time": {"column": "MJD", "format": "mjd"},
        "band": {"column": "F", "names": {"o": "atlaso"}}, "flux": "uJy", "fluxerr": "duJy",
        "zp": 23.9, "unusable": [{"column": "err", "outside": [0, 0]}],
    }  # fmt: skip
    for column in ("MJD", "##MJD"):
        spec["time"]["column"] = column
        (packet,), _ = read_objects(str(atlas), survey(spec))
        assert [(p["flux"], p["procstatus"]) for p in points(packet)] == [
            (None, "err 1"), (157.0, None)
        ]  # fmt: skip
    service = tmp_path / "req7_lc.txt"
    service.write_text("#\n# Requested R.A. = 1.5\n#\n"
                       "index, filter, zpdiff, jd, flux, unc, procstatus\n"
                       " 0 ZTF_g 26.1 2459900.73 18.25 9.1 0\n"
                       " 1 ZTF_g 26.1 2459901.73 null null 56,57\n")  # fmt: skip
    spec = {"object": {"file": r"req(\d+)"}, "time": "jd", "zp": "zpdiff", "flux": "flux",
            "fluxerr": "unc", "band": {"column": "filter", "names": {"ZTF_g": "ztfg"}}}  # fmt: skip
    (packet,), _ = read_objects(str(service), survey(spec))
    assert [(p["flux"], p["zp"]) for p in points(packet)] == [(18.25, 26.1), (None, None)]
    ipac = tmp_path / "lc.tbl"
    ipac.write_text("\\fixlen = T\n|oid            |mjd       |mag    |err  |\n"
                    "|long           |double    |float  |float|\n"
                    "|               |day       |mag    |mag  |\n"
                    "|null           |null      |null   |null |\n"
                    " 680101400001234 58257.4011 16.25   0.5  \n"
                    " 680101400001234 58258.4011 null    null \n")  # fmt: skip
    spec = {"object": "oid", "ids": "integer", "time": {"column": "mjd", "format": "mjd"},
            "band": {"value": "ztfg"}, "mag": "mag", "magerr": "err"}  # fmt: skip
    (packet,), _ = read_objects(str(ipac), survey(spec))
    assert [(p["mag"], packet.stock) for p in points(packet)] == [(16.25, 680101400001234)]


def test_rows_of_another_width_are_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEADER, "a,58000,g,2,0.5", "a,58001", "a,58002,g,2,0.5,7")
    (packet,), bad = read_objects(path, survey(FLUXES))
    assert len(packet.forced) == 1
    assert [(b["member"], b["reason"]) for b in bad] == [
        ("line 3", "bad_value"), ("line 4", "bad_value")
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv.gz", "CSV", "csv.bz2", "tsv", "txt.xz"])
def test_tables_are_found_and_read_in_any_case_and_compression(ending: str, tmp_path: Path) -> None:
    text = "name,mjd,band,flux,error\na,58000,g,2,0.5\n"
    text = text.replace(",", "\t") if ending == "tsv" else text
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(
        ending.split(".")[-1], bytes
    )
    (tmp_path / f"t.{ending}").write_bytes(pack(text.encode()))
    (file,) = find_files([tmp_path], name_patterns(survey(FLUXES)))
    (packet,), bad = read_objects(str(file), survey(FLUXES))
    assert (packet.name, bad) == ("a", [])


def test_one_odd_word_is_its_row_s_and_many_are_the_settings(tmp_path: Path) -> None:
    rows = [f"ZTF18aaaaaa{'ab'[i % 2]},{58000 + i},g,2,0.5" for i in range(10)]
    settings = survey(FLUXES | {"ids": "ztf"})
    odd = [rows[0].replace("g,", "x,"), rows[1].replace("ZTF", "ZFT"), *rows[2:]]
    found, bad = read_objects(write(tmp_path / "t.csv", HEADER, *odd), settings)
    assert sum(len(p.forced) for p in found) == 8
    assert [b["member"] for b in bad] == ["row 1", "row 2"]
    odd = [rows[0].replace("g,", "i,"), rows[1].replace("g,", "i,"), *rows[2:]]
    with pytest.raises(ArchiveError, match=r"'i' in row 1 is not among .*one of 2 of 10 rows"):
        read_objects(write(tmp_path / "t.csv", HEADER, *odd), settings)
