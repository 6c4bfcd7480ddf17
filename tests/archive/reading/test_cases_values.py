"""One odd value after another, as archives and brokers leave them, and what becomes of each.

The inputs are made here in small; what is right is written beside each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.archive.reading.packets import read_batches
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.archive.reading.rows import Packet, batch_of, point
from ampel_spark.archive.reading.values import BadPacket, integer, sign_of
from ampel_spark.job.configuration.load import load_survey
from tests.archive import odd
from tests.archive.conftest import SCHEMA, Body, Make
from tests.archive.reading.test_fuzz_values import lsst_packet

JD = 2458300.5
Rows = list[dict[str, Any]]
RowsOf = Callable[[Path], Rows]


def the_rows(rows: Rows) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the row of the one packet of a file, and that of its entries left out."""
    own, *more, end = rows
    assert (end["row"], end["seen"]) == ("end", 1)
    assert [r["row"] for r in more] in ([], ["entry"])
    return own, more[0] if more else None


@pytest.mark.parametrize(
    ("word", "sign"),
    [("t", 1), ("1", 1), ("T", 1), ("true", 1), ("y", 1), ("f", -1), ("0", -1), ("F", -1),
     ("false", -1), ("-1", -1), ("n", -1), ("No", -1), ("", None), ("x", None), (None, None)],
)  # fmt: skip
def test_a_sign_is_read_where_its_word_is_known_and_never_positive_by_default(
    make: Make, rows_of: RowsOf, tmp_path: Path, word: str | None, sign: int | None
) -> None:
    history = [make.detection(5, JD - 1, isdiffpos=word), make.detection(6, JD - 2)]
    (tmp_path / "own.avro").write_bytes(
        make.avro(make.packet(make.detection(7, JD, isdiffpos=word)))
    )
    (tmp_path / "old.avro").write_bytes(make.avro(make.packet(make.detection(7, JD), history)))
    own, _ = the_rows(rows_of(tmp_path / "own.avro"))
    old, left_out = the_rows(rows_of(tmp_path / "old.avro"))
    if sign is None:
        assert (own["row"], "isdiffpos" in own["detail"]) == ("bad", True)
        assert [p["datapoint_id"] for p in old["points"]] == [7, 6]
        assert left_out is not None
        assert left_out["reason"] == "bad_entry"
        assert "prv_candidates[0]: isdiffpos" in left_out["detail"]
        return
    assert [p["sign"] for p in own["points"]] == [sign]
    assert own["isdiffpos"] in (("t", "1") if sign > 0 else ("f", "0"))
    assert [p["sign"] for p in old["points"]] == [1, sign, 1]
    assert left_out is None


@pytest.mark.parametrize("sentinel", [-999.0, -99.0, 99.0, 999.0, 0.0, float("nan"), None])
def test_a_sentinel_for_a_magnitude_costs_its_packet_or_its_entry(
    make: Make, rows_of: RowsOf, tmp_path: Path, sentinel: float | None
) -> None:
    odd_own = make.packet(make.detection(8, JD, sentinel))
    history = [make.detection(5, JD - 1, sentinel), make.limit(JD - 2, 19.5)]
    path = make.night(tmp_path / "n.tar.gz", [make.packet(make.detection(7, JD), history), odd_own])
    rows = {(r["row"], r["member"]): r for r in rows_of(path)}
    assert set(rows) == {
        ("packet", "7.avro"),
        ("entry", "7.avro"),
        ("bad", "8.avro"),
        ("end", None),
    }
    assert "magpsf" in rows["bad", "8.avro"]["detail"]
    assert str(sentinel) in rows["bad", "8.avro"]["detail"] or sentinel is None
    assert (
        "1 entry of its history left out: prv_candidates[0]: magpsf"
        in (rows["entry", "7.avro"]["detail"])
    )
    kinds = [p["kind"] for p in rows["packet", "7.avro"]["points"]]
    assert kinds == ["detection", "upper_limit"]


def test_sentinels_for_limits_are_no_limits(make: Make, rows_of: RowsOf, tmp_path: Path) -> None:
    limits = [make.limit(JD - 1 - i, x) for i, x in enumerate((-999.0, -99.0, 99.0, 999.0, 19.5))]
    packet = make.packet(make.detection(7, JD, diffmaglim=-999.0), limits)
    (tmp_path / "a.avro").write_bytes(make.avro(packet))
    own, left_out = the_rows(rows_of(tmp_path / "a.avro"))
    assert [p["limit_mag"] for p in own["points"]] == [None, 19.5]
    assert left_out is not None  # AMPEL leaves out limits below zero without a word
    assert (
        "2 entries of its history left out: prv_candidates[2]: diffmaglim 99.0"
        in (left_out["detail"])
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [({"ra": float("nan")}, "ra nan is outside"), ({"fid": 4}, "fid 4 is no ZTF band"),
     ({"jd": 58300.5}, "jd 58300.5 is outside"), ({"sigmapsf": -999.0}, "sigmapsf -999.0 is not"),
     ({"ra": 360.1}, "ra 360.1 is outside"), ({"dec": -90.1}, "dec -90.1 is outside")],
)  # fmt: skip
def test_what_no_alert_can_be_is_quarantined_with_field_and_value(
    make: Make, rows_of: RowsOf, tmp_path: Path, change: Body, said: str
) -> None:
    (tmp_path / "a.avro").write_bytes(make.avro(make.packet(make.detection(7, JD) | change)))
    own, _ = the_rows(rows_of(tmp_path / "a.avro"))
    assert (own["row"], own["reason"]) == ("bad", "bad_value")
    assert said in own["detail"]


@pytest.mark.parametrize(
    "change", [{"ra": 360.0}, {"ra": 0.0}, {"dec": 90.0}, {"dec": -90.0}, {"sigmapsf": 0.0}]
)
def test_edges_of_the_sky_and_an_error_of_zero_are_stored(
    make: Make, rows_of: RowsOf, tmp_path: Path, change: Body
) -> None:
    (tmp_path / "a.avro").write_bytes(make.avro(make.packet(make.detection(7, JD) | change)))
    own, left_out = the_rows(rows_of(tmp_path / "a.avro"))
    assert (own["row"], left_out) == ("packet", None)


def test_text_that_is_no_utf8_is_said_by_its_field(
    make: Make, rows_of: RowsOf, tmp_path: Path
) -> None:
    packet = make.packet(make.detection(7, JD), classification=odd.BROKEN)
    (tmp_path / "a.avro").write_bytes(odd.avro(packet, SCHEMA))
    own, _ = the_rows(rows_of(tmp_path / "a.avro"))
    assert own["row"] == "bad"
    assert own["detail"] == r"field classification: '~\udcff~' is no UTF-8"


def test_json_of_further_values_is_json_whatever_they_are(
    make: Make, rows_of: RowsOf, tmp_path: Path
) -> None:
    packet = make.packet(make.detection(7, JD, plx=float("nan"), novelty=0.5, count=2**63 - 1))
    (tmp_path / "a.avro").write_bytes(odd.avro(packet, odd.loosened(packet)))
    own, _ = the_rows(rows_of(tmp_path / "a.avro"))
    # NaN and infinity are no JSON
    assert own["extra"] == json.dumps({"candidate.count": 2**63 - 1, "candidate.novelty": 0.5})


def ztf_rows_of_parquet(tmp_path: Path, **columns: Any) -> Rows:
    make = Make()
    packet = make.packet(make.detection(7, JD, isdiffpos="f"), [make.detection(5, JD - 1)])
    for name, value in columns.items():
        packet["candidate"][name] = value
        if name == "candid":
            packet["candid"] = value
    contents = {"a.parquet": packet, "b.parquet": make.packet(make.detection(9, JD))}
    for file, content in contents.items():
        parquet.write_table(pa.Table.from_pylist([content]), tmp_path / file)
    files = [str(tmp_path / file) for file in contents]
    rows = [r for b in reader_of(load_survey("ztf_parquet"))(files) for r in b.to_pylist()]
    # one file never costs the others
    assert [r["alert_id"] for r in rows if r["row"] == "packet"][-1] == 9
    return rows


@pytest.mark.parametrize(
    ("columns", "said"),
    [({}, None), ({"isdiffpos": False}, None), ({"isdiffpos": -1}, None), ({"isdiffpos": 0}, None),
     ({"candid": "7"}, None), ({"rcid": 11.0}, None), ({"rcid": float("nan")}, None),
     ({"magpsf": -999.0}, "magpsf -999.0 is not between 0 and 40"),
     ({"candid": 2.0**60}, "field candid: 1.152921504606847e+18 came through a float"),
     ({"candid": "seven"}, "field candid: 'seven' is no integer"),
     ({"rcid": 11.5}, "field rcid: 11.5 is no integer"),
     ({"rcid": 2**40}, "field rcid: 1099511627776 does not fit 32 bits"),
     ({"rb": "good"}, "field rb: 'good' is no number")],
)  # fmt: skip
def test_types_of_columns_that_brokers_leave(
    tmp_path: Path, columns: Body, said: str | None
) -> None:
    rows = ztf_rows_of_parquet(tmp_path, **columns)
    (own,) = [r for r in rows if r["file"].endswith("a.parquet") and r["row"] != "end"]
    if said is not None:
        assert (own["alert_id"], own["reason"]) == (None, "bad_value")
        assert said in own["detail"]
        return
    assert (own["alert_id"], own["isdiffpos"]) == (7, "f")
    assert own["points"][0]["sign"] == -1


def test_ids_are_exact_or_refused() -> None:
    assert integer("candid", 2.0**53 - 1, 64) == 2**53 - 1
    assert integer("candid", "9223372036854775807", 64) == 2**63 - 1
    for value in (2.0**53, 2**63, "9223372036854775808", "1e18", 7.5, True, b"7"):
        with pytest.raises(BadPacket, match="candid"):
            integer("candid", value, 64)
    for value in (2, 0.5, "maybe", float("nan"), b"t", [True]):
        with pytest.raises(BadPacket, match="says no sign"):
            sign_of("isdiffpos", value)


def test_a_packet_that_does_not_fit_its_columns_leaves_the_others() -> None:
    def made(number: int, **changes: Any) -> Packet:
        values = {"file": "f", "member": f"m{number}", "survey": "s", "name": "n", "stock": 1,
                  "alert_id": number, "programid": 1, "jd": JD, "ra": 10.0, "dec": 0.0,
                  "points": [point(number, "detection", JD, "ztfg")], "forced": []}  # fmt: skip
        return Packet(**{**values, **changes})

    bad = {
        "stock": made(2, stock=2**63),
        "rb": made(3, candidate={"rb": "good"}),
        "dec": made(4, dec=91.0),
        "jd": made(5, jd=float("nan")),
        "points": made(6, points=[point(6, "detection", JD, b"\xff")]),  # type: ignore[arg-type]
    }
    rows = batch_of([made(1), *bad.values(), made(7)], []).to_pylist()
    assert [r["alert_id"] for r in rows if r["row"] == "packet"] == [1, 7]
    details = [r["detail"] for r in rows if r["row"] == "bad"]
    assert len(details) == len(bad)
    expected = ("field stock: ", "field rb: ", "dec 91.0 is", "jd is nan", "a point's band")
    for said, detail in zip(expected, details, strict=True):
        assert said in detail


@pytest.mark.parametrize(
    ("path", "value", "points", "forced", "said"),
    [((), None, 4, 2, None),
     (("diaSource", "psfFluxErr"), float("nan"), 4, 2, None),
     (("diaSource", "ra"), float("nan"), 4, 2, None),
     (("diaSource", "diaObjectId"), "77", 4, 2, None),
     (("diaSource", "ra"), 361.0, 0, 0, "ra 361.0 is outside"),
     (("diaSource", "dec"), 91.0, 0, 0, "dec 91.0 is outside"),
     (("diaSource", "ra"), "10.0", 0, 0, "field ra: '10.0' is no number"),
     (("diaSource", "psfFlux"), None, 0, 0, "flux None"),
     (("diaSource", "diaObjectId"), None, 4, 2, None),
     (("diaSource", "diaObjectId"), 0, 0, 0, "needs both"),
     (("diaSource", "psfFlux_flag"), True, 3, 2, None),
     (("prvDiaSources", 0), None, 3, 2, "prvDiaSources[0]: None is no record"),
     (("prvDiaSources", 0, "band"), None, 3, 2, "prvDiaSources[0]: band None is none of"),
     (("prvDiaSources", 1, "psfFlux_flag"), True, 3, 2, "prvDiaSources[1]: psfFlux_flag is set"),
     (("prvDiaForcedSources", 1), None, 4, 1, "prvDiaForcedSources[1]: None is no record"),
     (("prvDiaForcedSources", 0, "band"), "", 4, 1, "prvDiaForcedSources[0]: band ''"),
     (("prvDiaNondetectionLimits", 0, "diaNoise"), -1.0, 3, 2, "diaNoise -1.0")],
)  # fmt: skip
def test_rubins_alerts_lose_what_cannot_be_alone(
    tmp_path: Path, path: odd.Path, value: Any, points: int, forced: int, said: str | None
) -> None:
    import random

    packet = lsst_packet()
    if path:
        odd._put(packet, path, value)
    (tmp_path / "a.avro").write_bytes(odd.avro(packet, odd.exact(packet, random.Random(1))))
    batches = reader_of(load_survey("lsst"))([str(tmp_path / "a.avro")])
    own, left_out, *_ = [*sorted(
        (r for b in batches for r in b.to_pylist() if r["row"] != "end"),
        key=lambda r: r["row"] == "entry",
    ), None]  # fmt: skip
    assert own is not None
    assert (len(own["points"] or ()), len(own["forced"] or ())) == (points, forced)
    assert (own["row"] == "packet") == (points > 0)
    detail = (left_out or own)["detail"]
    assert (detail is None) == (said is None)
    assert said is None or said in detail


@pytest.mark.real_data
def test_the_shared_cases_have_no_crash_and_their_counts(shared_data: Path) -> None:
    cases = shared_data.parent / "cases"
    if not cases.is_dir():
        pytest.skip("no folder of cases")
    expected = {
        ("05-odd-values", None, "*.avro"): (12, 5, 3),
        ("06-lsst-v11", "lsst", "*.avro"): (9, 0, 1),
        ("06b-lsst-types", "lsst", "*.avro"): (3, 3, 0),
        ("17-broker-parquet", "ztf_parquet", "*.parquet"): (7, 1, 0),
        ("23-sentinel-magnitude", None, "*.tar.gz"): (1, 1, 0),
        ("25-lsst-reissued", "lsst", "*.avro"): (4, 0, 0),
    }
    for (case, survey, pattern), counts in expected.items():
        reader = reader_of(load_survey(survey)) if survey else read_batches
        files = sorted(str(p) for p in (cases / case).glob(pattern))
        rows = [r["row"] for b in reader(files) for r in b.select(["row"]).to_pylist()]
        assert (case, *map(rows.count, ("packet", "bad", "entry"))) == (case, *counts)
