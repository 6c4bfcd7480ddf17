"""Packets of any version and writer land in one form; what cannot be read says why."""

import copy
import gzip
import json
from pathlib import Path

import pytest

from tests.archive.conftest import SCHEMA, Make

JD = 2458300.5


def test_a_packet_becomes_a_row_with_ampels_datapoints(make: Make, rows_of, tmp_path: Path) -> None:
    own = make.detection(7, JD, 18.5, ra=10.5, dec=-20.25)
    history = [
        make.limit(JD - 3, 19.5),
        make.detection(5, JD - 1, 18.75, isdiffpos="f"),
        make.limit(JD - 4, -999.0),
    ]
    path = make.night(tmp_path / "n.tar.gz", [make.packet(own, history)])
    row, end = rows_of(path)
    assert (end["row"], end["seen"]) == ("end", 1)
    assert (row["row"], row["member"], row["name"], row["stock"]) == (
        "packet",
        "7.avro",
        "ZTF18aaaaaab",
        17,
    )
    assert (row["alert_id"], row["jd"], row["night"], row["schema_version"]) == (
        7,
        JD,
        20180701,
        "3.3",
    )
    limit = -5430000001119500  # int((2457754.5 - 2458297.5) 1e6) 1e7 - 11 1e5 - 19500
    assert row["datapoint_ids"] == [7, limit, 5]
    assert row["datapoint_jds"] == [JD, JD - 3, JD - 1]
    assert (row["n_detections"], row["n_upper_limits"], row["jd_first"], row["jd_last"]) == (
        2,
        1,
        JD - 1,
        JD,
    )
    points = {p["datapoint_id"]: p for p in row["points"]}
    assert (points[5]["sign"], points[7]["sign"], points[limit]["sign"]) == (-1, 1, 0)
    assert points[7]["flux"] == pytest.approx(10 ** (-0.4 * (18.5 - 25)), rel=1e-12)
    assert points[5]["flux"] == pytest.approx(-(10 ** (-0.4 * (18.75 - 25))), rel=1e-12)
    assert points[5]["fluxerr"] / abs(points[5]["flux"]) == pytest.approx(0.1 * 0.921034, rel=1e-6)
    assert (points[limit]["kind"], points[limit]["mag"], points[limit]["flux"]) == (
        "upper_limit",
        None,
        None,
    )
    assert (points[limit]["limit_mag"], points[limit]["band"]) == (19.5, "ztfg")


def test_the_healpix_index_is_nested_of_order_29(make: Make, rows_of, tmp_path: Path) -> None:
    from astropy import units as u
    from astropy_healpix import HEALPix

    path = make.night(
        tmp_path / "n.tar.gz", [make.packet(make.detection(7, JD, ra=123.4, dec=-5.6))]
    )
    expected = HEALPix(2**29, order="nested").lonlat_to_healpix(123.4 * u.deg, -5.6 * u.deg)
    assert rows_of(path)[0]["hpx"] == expected


def test_of_two_limits_with_one_id_the_smaller_pid_stays(
    make: Make, rows_of, tmp_path: Path
) -> None:
    limits = [make.limit(JD - 1, 19.0, pid=22), make.limit(JD - 1, 19.0001, pid=11)]
    path = make.night(tmp_path / "n.tar.gz", [make.packet(make.detection(7, JD), limits)])
    row = rows_of(path)[0]
    assert len(row["points"]) == 2
    assert row["points"][1]["pid"] == 11


def test_unknown_fields_at_the_top_are_kept_aside(make: Make, rows_of, tmp_path: Path) -> None:
    path = make.night(
        tmp_path / "n.tar.gz", [make.packet(make.detection(7, JD), classification="SN")]
    )
    assert json.loads(rows_of(path)[0]["extra"]) == {"classification": "SN"}


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_codecs_of_avro_are_read(make: Make, rows_of, tmp_path: Path, codec: str) -> None:
    path = tmp_path / "7.avro"
    path.write_bytes(make.avro(make.packet(make.detection(7, JD)), codec=codec))
    assert rows_of(path)[0]["row"] == "packet"


def test_doubles_where_the_survey_has_floats_land_in_the_same_type(
    make: Make, rows_of, tmp_path: Path
) -> None:
    wide = json.loads(json.dumps(SCHEMA).replace('"float"', '"double"').replace('"int"', '"long"'))
    narrow, other = tmp_path / "a.avro", tmp_path / "b.avro"
    packet = make.packet(make.detection(7, JD, 18.5, sigmapsf=0.125))  # exact in both
    narrow.write_bytes(make.avro(packet))
    other.write_bytes(make.avro(packet, wide))
    a, b = rows_of(narrow)[0], rows_of(other)[0]
    assert {k: v for k, v in a.items() if k not in ("file", "member")} == {
        k: v for k, v in b.items() if k not in ("file", "member")
    }


def broken_members(make: Make) -> dict[str, tuple[bytes, str, str]]:
    good = make.avro(make.packet(make.detection(7, JD)))
    no_candidate = copy.deepcopy(SCHEMA)
    no_candidate["fields"] = [f for f in no_candidate["fields"] if f["name"] != "candidate"]
    return {
        "text.avro": (b"hello", "not_avro", "do not begin as an Avro container does"),
        "short.avro": (b"Ob", "truncated", "2 bytes"),
        "cut.avro": (good[: len(good) - 40], "truncated", "Avro"),
        "schema.avro": (
            make.avro(make.packet(make.detection(7, JD)), no_candidate),
            "wrong_schema",
            "no record 'candidate'",
        ),
        "name.avro": (
            make.avro(make.packet(make.detection(7, JD), name="SN2011fe")),
            "bad_value",
            "'SN2011fe' is not a ZTF name",
        ),
        "ra.avro": (
            make.avro(make.packet(make.detection(7, JD, ra=400.0))),
            "bad_value",
            "ra 400.0 is outside",
        ),
        "nan.avro": (
            make.avro(make.packet(make.detection(7, float("nan")))),
            "bad_value",
            "jd nan",
        ),
        "fid.avro": (
            make.avro(make.packet(make.detection(7, JD, fid=9))),
            "bad_value",
            "fid 9 is no ZTF band",
        ),
        "mag.avro": (
            make.avro(make.packet(make.detection(7, JD, magpsf=None))),
            "wrong_schema",
            "candidate lacks magpsf",
        ),
        "candid.avro": (
            make.avro(make.packet(make.detection(7, JD), candid=8)),
            "bad_value",
            "candid is 8 in the packet",
        ),
    }


def test_unreadable_packets_have_a_reason_and_the_rest_of_the_file_is_kept(
    make: Make, rows_of, tmp_path: Path
) -> None:
    bad = broken_members(make)
    members = {"1.avro": make.avro(make.packet(make.detection(1, JD)))}
    members |= {name: data for name, (data, _, _) in bad.items()}
    members["2.avro"] = make.avro(make.packet(make.detection(2, JD)))
    path = tmp_path / "n.tar.gz"
    path.write_bytes(gzip.compress(make.tar(members)))
    rows = rows_of(path)
    assert [r["member"] for r in rows if r["row"] == "packet"] == ["1.avro", "2.avro"]
    found = {r["member"]: r for r in rows if r["row"] == "bad"}
    assert set(found) == set(bad)
    for name, (_, reason, detail) in bad.items():
        assert (name, found[name]["reason"]) == (name, reason)
        assert detail in found[name]["detail"]
    assert rows[-1]["seen"] == len(members)


def test_a_value_of_a_wrong_type_quarantines_its_packet_and_names_the_field(
    make: Make, rows_of, tmp_path: Path
) -> None:
    text = copy.deepcopy(SCHEMA)
    for field in text["fields"][3]["type"]["fields"]:
        if field["name"] == "rb":
            field["type"] = "string"
    members = {
        "1.avro": make.avro(make.packet(make.detection(1, JD))),
        "2.avro": make.avro(make.packet(make.detection(2, JD, rb="good")), text),
    }
    path = tmp_path / "n.tar"
    path.write_bytes(make.tar(members))
    rows = rows_of(path)
    assert [(r["row"], r["member"]) for r in rows] == [
        ("packet", "1.avro"),
        ("bad", "2.avro"),
        ("end", None),
    ]
    assert "field rb" in rows[1]["detail"]


@pytest.mark.real_data
def test_original_packets_with_cutouts_and_snappy_are_read(packed_data: Path, rows_of) -> None:
    paths = sorted((packed_data / "packets_full").rglob("*.avro"))
    assert len(paths) == 110
    rows = [row for path in paths for row in rows_of(path)]
    assert sum(r["row"] == "packet" for r in rows) == 110
    assert {r["schema_version"] for r in rows if r["row"] == "packet"} == {
        "3.0",
        "3.3",
        "4.01",
        "4.02",
    }


@pytest.mark.real_data
def test_the_real_archive_has_the_counts_that_were_counted_otherwise(shared_data: Path) -> None:
    from ampel_spark.archive.reading.files import find_files
    from ampel_spark.archive.reading.packets import read_batches

    files = [str(p) for p in find_files([shared_data / "ztf_alerts" / "archive"])]
    rows = [
        row
        for batch in read_batches(files)
        for row in batch.select(["row", "stock", "points", "forced", "schema_version"]).to_pylist()
    ]
    packets = [r for r in rows if r["row"] == "packet"]
    assert len(packets) == 1216
    assert len({r["stock"] for r in packets}) == 1144
    points = {(r["stock"], p["datapoint_id"], p["kind"]) for r in packets for p in r["points"]}
    assert sum(kind == "detection" for *_, kind in points) == 7997
    assert sum(kind == "upper_limit" for *_, kind in points) == 15500
    forced = [p for r in packets for p in r["forced"]]
    assert len(forced) == 431
    # a flux is null exactly where the survey wrote its sentinel
    assert sum(p["flux"] is None for p in forced) == 171
    versions = [r["schema_version"] for r in packets]
    assert {v: versions.count(v) for v in set(versions)} == {
        "3.0": 30,
        "3.1": 9,
        "3.2": 383,
        "3.3": 313,
        "4.01": 16,
        "4.02": 465,
    }
