"""The rule of revisions in plain Python, one datapoint at a time, and objects to try it on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.archive.conftest import Body, Make

JD = 2458300.5

Row = dict[str, Any]


def differs(a: Row, b: Row) -> bool:
    """Say whether values differ by a millimagnitude or more, as design has it."""

    def apart(name: str) -> bool:
        x, y = a[name], b[name]
        if x is None or y is None:
            return (x is None) != (y is None)
        return abs(x - y) >= 1e-3

    if a["kind"] != "forced":
        return apart("mag") or apart("magerr") or apart("limit_mag") or a["sign"] != b["sign"]
    if a["flux"] is None or b["flux"] is None:
        return (a["flux"] is None) != (b["flux"] is None) or apart("zp")
    scale = max(abs(a["flux"]), a["fluxerr"]) * 1e-3 * math.log(10) / 2.5
    return (
        abs(a["flux"] - b["flux"]) >= scale or abs(a["fluxerr"] - b["fluxerr"]) >= scale
    ) or apart("zp")


def revisions(packets: Iterable[Row]) -> dict[tuple[int, int, int], Row]:
    """Return (stock, datapoint, revision) to values and the first alert that showed them."""
    current: dict[tuple[int, int], tuple[int, Row]] = {}
    found: dict[tuple[int, int, int], Row] = {}
    for packet in sorted(packets, key=lambda p: (p["jd"], p["alert_id"])):
        for point in (*packet["points"], *packet["forced"]):
            key = (packet["stock"], point["datapoint_id"])
            number, values = current.get(key, (-1, point))
            if number < 0 or differs(values, point):
                current[key] = (number + 1, point)
                found[(*key, number + 1)] = {
                    **point,
                    "first_alert_jd": packet["jd"],
                    "first_alert_id": packet["alert_id"],
                }
    return found


def objects(make: Make, seed: int, n: int, nights: int) -> list[list[Body]]:
    """Return packets by night: what they show of one another flips, drifts and is revised."""
    random = np.random.default_rng(seed)
    steps = np.array([0.0, 0.0, 0.0, 0.0004, 0.0008, 0.0012, -0.0006, 0.05])
    by_night: list[list[Body]] = [[] for _ in range(nights)]
    for i in range(n):
        name = "ZTF18aaa" + "".join(chr(97 + d) for d in ((i // 26**3) % 26, (i // 676) % 26,
                                                          (i // 26) % 26, i % 26))  # fmt: skip
        seen = np.flatnonzero(random.random(nights) < 0.6)
        shown: list[Body] = [make.limit(JD - 3, 20.0), make.limit(JD - 2, 19.5)]
        forced: list[Body] = []
        for night in seen.tolist():
            candid = 1_000_000 * (night + 1) + i
            mag = 18 + round(random.random(), 3)
            own = make.detection(candid, JD + night + i * 1e-6, mag, rb=(i % 8) / 8)
            history = []
            for body in shown:
                changed = dict(body)
                if "magpsf" in body:
                    changed["magpsf"] = body["magpsf"] + float(random.choice(steps))
                    changed["rb"] = night / 64  # every packet says another
                else:
                    changed["pid"] = int(random.integers(5))
                if random.random() < 0.85:
                    history.append(changed)
            measured = [
                {**body, "forcediffimflux": body["forcediffimflux"]
                 * (1 + float(random.choice(steps)))} for body in forced
            ]  # fmt: skip
            by_night[night].append(
                make.packet(own, history or None, name=name, fp_hists=measured or None)
            )
            shown.append(own)
            forced.append(
                {"jd": own["jd"], "fid": 1, "pid": 1, "programid": 1, "field": 500, "rcid": 11,
                 "diffmaglim": 20.0, "forcediffimflux": 100.0 + night,
                 "forcediffimfluxunc": 5.0, "magzpsci": 26.0, "procstatus": "0"}
            )  # fmt: skip
    return by_night
