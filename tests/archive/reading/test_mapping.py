"""LSST's schema: sources as datapoints, forced photometry apart, what cannot be is quarantined."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ampel_spark.archive.reading.mapping import Mapper
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.archive.reading.rows import Packet
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.ztf import POINT_COLUMNS, BadPacket
from ampel_spark.job.configuration.load import load_survey


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
