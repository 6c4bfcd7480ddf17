"""Small archives, as alerts say what they show: their tables as the ingest makes them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ampel_spark.archive.committing.revisions import once
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
from ampel_spark.archive.sightings import Sighting, history, revisions
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.tables import TABLES

JD = 2458300.5

ALERT_SCHEMA = pa.schema(
    [("survey", pa.string()), ("stock", pa.int64()), ("name", pa.string()),
     ("alert_id", pa.int64()), ("jd", pa.float64()), ("programid", pa.int32()),
     ("datapoint_ids", pa.list_(pa.int64())), ("forced_ids", pa.list_(pa.int64()))]
)  # fmt: skip


def alert(
    i: int,
    day: float,
    shows: dict[int, float],
    programid: int = 1,
    stock: int = 17,
    hidden: tuple[int, ...] = (),
    forced: tuple[int, ...] = (),
) -> dict[str, Any]:
    """An alert that shows datapoints: magnitude by id; `hidden` ones belong to program 2."""
    return {"survey": "ztf", "stock": stock, "name": f"ZTF{stock}", "alert_id": i, "jd": JD + day,
            "programid": programid, "datapoint_ids": [i for i in shows if i not in forced],
            "forced_ids": list(forced) or None, "shows": shows, "hidden": hidden}  # fmt: skip


def kind(alert: dict[str, Any], i: int) -> str:
    if i in (alert["forced_ids"] or ()):
        return "forced"
    return "detection" if i > 0 else "upper_limit"


def frames(alerts: Sequence[dict[str, Any]]) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return alerts, their datapoints, and the sightings of those that have several values."""
    frame = pa.Table.from_pylist(alerts, ALERT_SCHEMA)
    sighted = [
        {
            "survey": a["survey"], "stock": a["stock"], "first_alert_jd": a["jd"],
            "first_alert_id": a["alert_id"], "datapoint_id": i, "jd": JD + i / 10, "band": "ztfg",
            "kind": kind(a, i), "mag": mag if i > 0 else None, "flux": 10.0, "fluxerr": 1.0,
            "magerr": 0.1 if i > 0 else None, "limit_mag": 20.0, "sign": 1 if i > 0 else 0,
            "zpsys": "ab", "programid": 2 if i in a["hidden"] else 1, "field": 1, "rcid": 1,
            "pid": 1, "value_hash": round(mag * 1e6),
        }
        for a in alerts
        for i, mag in a["shows"].items()
    ]  # fmt: skip
    shown = defaultdict(list)
    for row in sighted:
        values = dict.fromkeys(name for name, _ in POINT_COLUMNS) | row
        key = row["survey"], row["stock"], row["datapoint_id"]
        shown[key].append(Sighting(row["first_alert_jd"], row["first_alert_id"], values))
    datapoints, sightings = [], []
    for own in shown.values():
        runs = history((), (), own)
        for number, kept in enumerate(revisions(runs)):
            datapoints.append(row_of(kept) | {"revision": number})
        sightings += [row_of(run) for run in once(runs)] if len(runs) > 1 else []
    return (
        frame,
        pa.Table.from_pylist(datapoints, arrow_schema(TABLES["datapoints"])),
        pa.Table.from_pylist(sightings, arrow_schema(TABLES["sightings"])),
    )


def row_of(sighting: Sighting) -> dict[str, Any]:
    return {
        **sighting.values, "first_alert_jd": sighting.jd, "first_alert_id": sighting.alert_id
    }  # fmt: skip


def channels(alerts: pa.Table, *names: str) -> pa.Table:
    """Return alerts as each of some channels accepts them."""
    rows = alerts.select(["survey", "stock", "name", "alert_id", "jd"])
    return pa.concat_tables(
        [rows.append_column("channel", pa.repeat(name, len(rows))) for name in names]
    )
