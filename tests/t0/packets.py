"""Packets made by hand, and the rows of the alerts table that they become."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Row, SparkSession

from ampel_spark.archive.ids import stock_of
from ampel_spark.archive.reading.ztf import alerts_table
from tests.t0.twin import Verdict

Packet = dict[str, Any]

#: AMPEL's documented parameters of the channel HU_RAPID.
HU_RAPID: dict[str, Any] = {
    "min_ndet": 2, "min_tspan": -666, "max_tspan": 5, "min_rb": 0.3, "max_fwhm": 5.5,
    "max_elong": 1.4, "max_magdiff": 1, "max_nbad": 0, "min_sso_dist": 20, "min_gal_lat": 14,
    "gaia_rs": 20, "gaia_pm_signif": 3, "gaia_plx_signif": 3, "gaia_veto_gmag_min": 9,
    "gaia_veto_gmag_max": 20, "gaia_excessnoise_sig_max": 999, "ps1_sgveto_rad": 1,
    "ps1_sgveto_th": 0.8, "ps1_confusion_rad": 3, "ps1_confusion_sg_tol": 0.1,
}  # fmt: skip

#: A candidate that HU_RAPID and SimpleDecentFilter accept.
GOOD: dict[str, Any] = {
    "programid": 1, "isdiffpos": "t", "rb": 0.9, "drb": 0.99, "fwhm": 2.0, "elong": 1.1,
    "magdiff": 0.1, "nbad": 0, "jdstarthist": 2459000.0, "jdendhist": 2459010.0, "ssdistnr": -999.0,
    "ra": 190.0, "dec": 30.0, "distpsnr1": 5.0, "sgscore1": 0.9, "distpsnr2": 8.0, "sgscore2": 0.1,
    "distpsnr3": 12.0, "sgscore3": 0.2, "magpsf": 18.5, "sigmapsf": 0.1, "fid": 1, "ndethist": 5,
}  # fmt: skip

_TYPES = {c.name: c.type for c in alerts_table().columns}


def packet(
    candid: int = 100,
    jd: float = 2459010.0,
    *,
    name: str = "ZTF20aaaaaab",
    history: Sequence[tuple[float, int | None, int]] | None = None,
    **changes: Any,
) -> Packet:
    """Return a packet: `GOOD` with `changes`, and a history of (jd, candid or None, programid).

    Without a history there is one detection a day earlier. Numbers are what the survey's types can
    hold, as they are in a decoded packet. A change to ``...`` takes the key out.
    """
    body = {**GOOD, "candid": candid, "jd": jd, **changes}
    if history is None:
        history = [(jd - 1.0, 10**9 + candid, body["programid"])]
    return {
        "objectId": name,
        "candidate": {k: _as_stored(k, v) for k, v in body.items() if v is not ...},
        "prv_candidates": [{"jd": t, "candid": c, "programid": p} for t, c, p in history],
    }


def _as_stored(key: str, value: Any) -> Any:
    if _TYPES.get(key) == "float" and value is not None:
        return float(np.float32(value))
    return value


def alert_row(p: Packet) -> dict[str, Any]:
    """Return a packet's row of the alerts table."""
    names = alerts_table().names
    return dict(zip(names, _row(p, names, itertools.count(1)), strict=True))


def alerts(spark: SparkSession, packets: Iterable[Packet]) -> DataFrame:
    """Return the alerts table of packets."""
    table = alerts_table()
    limits = itertools.count(1)
    return spark.createDataFrame([_row(p, table.names, limits) for p in packets], table.schema())


def _row(p: Packet, names: Sequence[str], limits: Iterable[int]) -> tuple[Any, ...]:
    candidate = p["candidate"]
    points = [candidate, *(p["prv_candidates"] or ())]
    detections = [d["jd"] for d in points if d.get("candid")]
    values = {
        **candidate,
        "survey": "ztf",
        "stock": stock_of(p["objectId"]),
        "name": p["objectId"],
        "alert_id": candidate["candid"],
        "datapoint_ids": [d.get("candid") or -next(iter(limits)) for d in points],
        "datapoint_jds": [d["jd"] for d in points],
        "datapoint_programids": [d["programid"] for d in points],
        "n_detections": len(detections),
        "jd_first": min(detections),
        "jd_last": max(detections),
    }
    return tuple(values.get(name) for name in names)


def by_alert(decisions: DataFrame) -> dict[tuple[str, int], Row]:
    """Collect decisions by (channel, alert); fails if one occurs twice."""
    rows = decisions.collect()
    found = {(r.channel, r.alert_id): r for r in rows}
    assert len(found) == len(rows)
    return found


def disagreements(
    decisions: Mapping[tuple[str, int], Row],
    channel: str,
    verdicts: Mapping[int, Verdict | None],
) -> list[str]:
    """Return a line for each alert on which engine and twin do not say the same."""
    lines = []
    for alert_id, verdict in verdicts.items():
        row = decisions.get((channel, alert_id))
        if verdict is None or row is None:
            same = verdict is None and row is None
        else:
            same = (row.accepted, row.cut) == verdict[:2] and _equal(row, verdict)
        if not same:
            lines.append(f"{channel} {alert_id}: twin {verdict}, engine {row}")
    return lines


def _equal(row: Row, verdict: Verdict) -> bool:
    pairs = ((row.value, verdict.value), (row.threshold, verdict.threshold))
    return all(
        (a is None and b is None)
        or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-9))
        for a, b in pairs
    )
