"""Alerts by mapping: sources are datapoints, forced ones apart, what cannot be costs itself."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from ampel_spark.archive.ids import named_stock
from ampel_spark.archive.reading import packets
from ampel_spark.archive.reading.mapping import Mapper, utc
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.archive.reading.rows import Packet
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.ztf import POINT_COLUMNS, BadPacket
from ampel_spark.job.configuration.load import load_survey
from tests.archive import odd
from tests.conftest import PROJECT


def shape(packet: Any, survey: Survey) -> Packet:
    return Mapper(survey).shape(packet)[0]


NAMES = [name for name, _ in POINT_COLUMNS]


def source(number: int, mjd: float, flux: float = 1000.0, **changes: Any) -> dict[str, Any]:
    return {"diaSourceId": number, "diaObjectId": 77, "midpointMjdTai": mjd, "band": "r",
            "ra": 10.0, "dec": -20.0, "psfFlux": flux, "psfFluxErr": 50.0, "detector": 94,
            "snr": 20.0, **changes}  # fmt: skip


def rubin(own: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "alertId": own["diaSourceId"],
        "diaSource": own,
        "prvDiaSources": None,
        "prvDiaForcedSources": None,
        "diaObject": {"diaObjectId": 77, "nDiaSources": 3},
        **more,
    }


def test_sources_are_detections_and_forced_sources_forced_points() -> None:
    forced = {"diaForcedSourceId": 5, "diaObjectId": 77, "midpointMjdTai": 61000.25, "band": "g",
              "psfFlux": -30.0, "psfFluxErr": 10.0, "detector": 3}  # fmt: skip
    packet = rubin(
        source(3, 61002.5),
        prvDiaSources=[source(2, 61001.5, -500.0), source(3, 61002.5)],
        prvDiaForcedSources=[forced, forced | {"midpointMjdTai": 61000.5, "psfFlux": float("nan")}],
    )
    made = shape(packet, load_survey("lsst"))
    assert (made.survey, made.stock, made.name, made.alert_id) == ("lsst", 77, "77", 3)
    assert (made.jd, made.ra, made.dec) == (2461003.0, 10.0, -20.0)
    one, two = (dict(zip(NAMES, p, strict=True)) for p in made.points)
    assert (one["datapoint_id"], one["kind"], one["band"], one["rcid"]) == (3, "detection",
                                                                          "lsstr", 94)  # fmt: skip
    # 1000 nJy are 23.9 mag AB, and 20 sigma are 0.054 mag
    assert one["mag"] == pytest.approx(23.9)
    assert one["magerr"] == pytest.approx(1.0857362 / 20)
    assert (two["datapoint_id"], two["sign"]) == (2, -1)
    good, bad = (dict(zip(NAMES, p, strict=True)) for p in made.forced)
    assert (good["jd"], good["flux"], good["zp"], good["sign"]) == (2461000.75, -30.0, 31.4, -1)
    assert (bad["flux"], bad["procstatus"]) == (None, "no flux")
    own = json.loads(made.own or "")
    assert own["diaObject"]["nDiaSources"] == 3
    assert own["diaSource"]["snr"] == 20.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"diaObjectId": None}, "diaObjectId None"),
        ({"psfFlux": 0.0}, "flux 0.0"),
        ({"band": "Q"}, "band 'Q' is none of u, g, r, i, z, y"),
        ({"midpointMjdTai": 2461003.0}, "time 2461003.0 is no MJD"),
    ],
)
def test_what_no_alert_can_be_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadPacket, match=told):
        shape(rubin(source(3, 61002.5, **change), diaObject=None), load_survey("lsst"))
    with pytest.raises(BadPacket, match="no record 'diaSource'"):
        shape({"candidate": {}}, load_survey("lsst"))


def points_of(made: Packet) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, p, strict=True)) for p in (*made.points, *made.forced)]


def test_what_the_survey_withdrew_has_no_values_and_is_in_no_history() -> None:
    gone = source(2, 61001.5, timeWithdrawnMjdTai=61002.0)
    forced = {"midpointMjdTai": 61000.25, "band": "g", "psfFlux": 3.0, "psfFluxErr": 1.0,
              "timeWithdrawnMjdTai": 61002.0}  # fmt: skip
    packet = rubin(source(3, 61002.5), prvDiaSources=[gone], prvDiaForcedSources=[forced])
    made = shape(packet, load_survey("lsst"))
    assert [p[0] for p in made.points] == [3]
    rows = points_of(made)[1:]
    assert [(r["kind"], r["procstatus"]) for r in rows] == [("detection", "withdrawn"),
                                                           ("forced", "withdrawn")]  # fmt: skip
    assert {r[name] for r in rows for name in ("mag", "flux", "sign", "limit_mag")} == {None}


def test_an_alert_whose_own_flux_failed_is_stored_without_that_detection() -> None:
    packet = rubin(source(3, 61002.5, psfFlux=None, psfFlux_flag=True),
                   prvDiaSources=[source(2, 61001.5)])  # fmt: skip
    made = shape(packet, load_survey("lsst"))
    assert (made.alert_id, made.jd, [p[0] for p in made.points]) == (3, 2461003.0, [2])
    assert json.loads(made.own or "")["sources_without_flux"] == 1
    assert made.own_columns["psf_flux_flag"] is True


@pytest.mark.parametrize(
    ("more", "stock", "name"),
    [
        ({"ssSource": {"ssObjectId": 21163, "designation": "2011 AA1"}}, 21163, "2011 AA1"),
        ({"ssObject": {"ssObjectId": 21163}}, 21163, "21163"),
        ({"MPCORB": {"mpcDesignation": "2011 AA1"}}, None, "2011 AA1"),
        ({"mpc_orbits": {"designation": "2011 AA1"}}, None, "2011 AA1"),
    ],
)
def test_a_body_of_the_solar_system_is_an_object_of_its_own(
    more: dict[str, Any], stock: int | None, name: str
) -> None:
    packet = rubin(source(3, 61002.5, diaObjectId=None), diaObject=None, **more)
    made = shape(packet, load_survey("lsst"))
    assert made.name == name
    assert made.stock == stock or (stock is None and made.stock >= 1 << 62)
    assert made.own_columns["solar_system"] is True
    both = shape(rubin(source(3, 61002.5), **more), load_survey("lsst"))
    assert (both.stock, both.own_columns["solar_system"]) == (77, False)


def test_utc_is_what_astropy_makes_of_tai() -> None:
    from astropy.time import Time

    # none of these days has a leap second
    days = np.array([2441317.6, 2451545.0, 2456100.3, 2457750.4, 2457754.6, 2461003.0])
    theirs = Time(days, format="jd", scale="tai").utc.jd
    assert np.abs(utc(days) - theirs).max() < 1e-9


LS4 = """
name: ls4
reader: packets
access: {LS4: 1, LS4_PRIV: 2}
packets:
  id: candidate.candid
  stock: {id: objectId, ids: name}
  time: jd
  band: fid
  bands: {1: ps1::g, 2: ps1::i}
  mag: magpsf
  magerr: sigmapsf
  sign: isdiffpos
  limit: diffmaglim
  ra: ra
  dec: dec
  rcid: ccd
  programid: programid
  points:
  - {records: candidate, kind: detection, id: candid}
  - {records: prv_candidates, kind: detection, id: candid, where: candid}
  - {records: prv_candidates, kind: upper_limit, unless: candid}
columns:
  alerts:
    rb: {from: candidate.rb, type: float, comment: "score"}
    n_bands: {from: made.n_bands, type: int, comment: "bands"}
  points:
    rb: {from: rb, type: float, comment: "score"}
"""

ULTRASAT = """
name: ultrasat
reader: packets
night_starts: 0.0
access: {ULTRASAT: 1}
packets:
  id: alert_id
  stock: {id: object.id, name: object.designation}
  time: t_mid
  format: iso
  band: channel
  bands: {nuv: uvot::uvw2}
  flux: flux.value
  fluxerr: flux.error
  zp: /instrument.zeropoint
  unusable: {path: quality, outside: [0.5, 1.0]}
  points:
  - {records: detection, kind: detection}
  - {records: light_curve, kind: forced}
columns:
  alerts:
    snr: {from: detection.snr, type: double, comment: "signal to noise"}
  points:
    quality: {from: quality, type: float, comment: "share of good pixels"}
"""


def packet_of_ls4(candid: int = 9) -> dict[str, Any]:
    def point(candid: int | None, jd: float, mag: float | None, fid: int) -> dict[str, Any]:
        return {"candid": candid, "jd": jd, "magpsf": mag, "sigmapsf": mag and 0.1, "fid": fid,
                "isdiffpos": "f" if candid == 7 else "t", "diffmaglim": 20.5, "ra": 10.0,
                "dec": -30.0, "ccd": 30, "programid": 1, "rb": 0.75}  # fmt: skip

    history = [point(7, 2460900.5, 19.0, 2), point(None, 2460899.5, None, 1)]
    return {"objectId": "LS4_25abc", "candidate": point(candid, 2460901.5, 18.5, 1),
            "prv_candidates": history}  # fmt: skip


def packet_of_ultrasat() -> dict[str, Any]:
    def point(time: str, flux: float, quality: float) -> dict[str, Any]:
        return {"t_mid": time, "flux": {"value": flux, "error": 0.5}, "channel": "nuv",
                "quality": quality}  # fmt: skip

    return {
        "alert_id": 5,
        "object": {"id": 12, "designation": "ULTRASAT 28a"},
        "instrument": {"zeropoint": 23.9},
        "detection": point("2028-01-01T12:00:00", 100.0, 0.9),
        "light_curve": [point("2027-12-31T12:00:00+00:00", -1.0, 0.9),
                        point("2027-12-30T12:00:00Z", 3.0, 0.1)],
    }  # fmt: skip


def settings_of(text: str) -> Survey:
    return Survey.model_validate(yaml.safe_load(text))


def test_other_surveys_are_read_by_a_file_alone() -> None:
    made = shape(packet_of_ls4(), settings_of(LS4))
    stock = named_stock("ls4", "LS4_25abc")
    assert (made.name, made.stock, made.alert_id) == ("LS4_25abc", stock, 9)
    assert [(r["kind"], r["band"], r["sign"], r["rcid"]) for r in points_of(made)] == [
        ("detection", "ps1::g", 1, 30),
        ("detection", "ps1::i", -1, 30),
        ("upper_limit", "ps1::g", 0, 30),
    ]
    assert dict(made.own_columns) == {"rb": 0.75, "n_bands": 2}
    made = shape(packet_of_ultrasat(), settings_of(ULTRASAT))
    assert (made.name, made.stock, made.jd) == ("ULTRASAT 28a", 12, 2461772.0)
    own, usable, failed = points_of(made)
    assert own["mag"] == pytest.approx(18.9)
    assert (usable["jd"], usable["flux"], usable["zp"], usable["sign"]) == (2461771.0, -1.0, 23.9,
                                                                           -1)  # fmt: skip
    assert (failed["flux"], failed["procstatus"]) == (None, "no flux")


@pytest.mark.parametrize(
    ("text", "packet"), [(LS4, packet_of_ls4()), (ULTRASAT, packet_of_ultrasat())]
)
def test_both_ways_and_parquet_give_the_same_rows(
    text: str, packet: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(settings_of(text))
    (tmp_path / "a.avro").write_bytes(odd.avro(packet, odd.exact(packet, random.Random(1))))
    parquet.write_table(pa.Table.from_pylist([packet]), tmp_path / "a.parquet")

    def rows(name: str) -> str:
        apart = ("file", "member", "sha256", "seen", "bytes")
        found = [row for b in reader([str(tmp_path / name)]) for row in b.to_pylist()]
        return repr([{k: v for k, v in r.items() if k not in apart} for r in found])

    fast = rows("a.avro")
    monkeypatch.setattr(packets, "PLAIN", True)
    assert fast == rows("a.avro")
    assert rows("a.parquet").count("'kind'") == fast.count("'kind'")
    assert "'row': 'packet'" in fast


def test_the_documents_survey_is_read(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "surveys.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.S)

    def point(number: int | None, time: float, **more: Any) -> dict[str, Any]:
        return {"id": number, "time": time, "filter": 3, "mag": 19.0, "mag_err": 0.1, "chip": 90,
                "positive": True, "ra": 1.0, "dec": 2.0, "bad": False, "flags": 1, "score": 0.5,
                "limit": 21.0, "retracted": False, **more}  # fmt: skip

    packet = {
        "alert": point(9, 61000.5),
        "source": {"number": 4, "name": "RS 4"},
        "pointing": {"field": 77},
        "history": [point(8, 60999.5, flags=2), point(7, 60998.5, retracted=True),
                    point(None, 60997.5), point(6, 60996.5, mag=-999)],
        "forced": [{"time": 60999.5, "filter": "q", "flux": 5.0, "flux_err": 1.0, "zp": 25.0}],
    }  # fmt: skip
    made, faults, nulls = Mapper(settings_of(example)).shape(packet)
    assert faults == ["history[0]: flags is set: mag 19.0 is no detection"]
    assert (nulls, made.name, made.own_columns["n_bands"]) == ([], "RS 4", 1)
    found = [(r["kind"], r["band"], r["field"], r["procstatus"]) for r in points_of(made)]
    assert found == [
        ("detection", "sdssi", 77, None),
        ("upper_limit", "sdssi", 77, None),
        ("detection", "sdssi", 77, "withdrawn"),
        ("forced", "sdssg", 77, None),
    ]
    moving = packet | {"source": None, "alert": point(9, 61000.5, mover="2011 AA1")}
    made = Mapper(settings_of(example)).shape(moving)[0]
    assert (made.name, made.own_columns["solar_system"]) == ("2011 AA1", True)


def test_the_samples_alerts_replay_each_object_in_sequence(shared_data: Path) -> None:
    path = shared_data / "elasticc" / "elasticc_alerts_alerce.tar.gz"
    batches = list(reader_of(load_survey("elasticc"))([str(path)]))
    columns = ["row", "stock", "alert_id", "jd", "datapoint_ids", "n_detections", "seen"]
    rows = [r for b in batches for r in b.select(columns).to_pylist()]
    alerts = sorted(
        (r for r in rows if r["row"] == "packet"),
        key=lambda r: (r["stock"], r["jd"], r["alert_id"]),
    )
    assert Counter(r["row"] for r in rows) == {"packet": 5689, "end": 1}
    assert len({r["stock"] for r in alerts}) == 518
    assert len({r["alert_id"] for r in alerts}) == 5689
    assert rows[-1]["seen"] == 5689
    # an alert's history is what earlier alerts of the object were of, told by an independent read
    theirs = {}
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for info in tar:
            data = tar.extractfile(info) if info.isfile() else None
            for p in fastavro.reader(io.BytesIO(data.read())) if data else ():
                theirs[p["diaSource"]["diaSourceId"]] = {
                    s["diaSourceId"] for s in [p["diaSource"], *(p["prvDiaSources"] or ())]
                }
    assert {r["alert_id"]: set(r["datapoint_ids"]) for r in alerts} == theirs
    assert max(Counter(r["stock"] for r in alerts).values()) == 44
