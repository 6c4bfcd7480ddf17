"""Light curves as T1 stages them for units."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA


def curves(mags: list[list[float]], **own: Any) -> pa.RecordBatch:
    """Light curves of detections only, one day apart; `own` columns are one value an object."""
    n = len(mags)
    head = {
        "state_id": [f"s{i}" for i in range(n)],
        "stock": range(n),
        "name": [f"ZTF{i}" for i in range(n)],
    }
    defaults: dict[str, Any] = {
        "kind": 0, "band": "ztfg", "magerr": 0.1, "sign": 1, "zpsys": "ab", "zp": 25.0,
        "programid": 1, "field": 1, "rcid": 1, "limit_mag": 20.0, "flux": 1.0, "fluxerr": 0.1,
        "ra": 1.0, "dec": 2.0,
    }  # fmt: skip
    columns: dict[str, Any] = {**head, "input_hash": [""] * n}
    for name in POINT_FIELDS:
        if name == "mag":
            columns["lc_mag"] = mags
        elif name in own:
            columns[f"lc_{name}"] = [[v] * len(m) for v, m in zip(own[name], mags, strict=True)]
        elif name in ("jd", "datapoint_id"):
            columns[f"lc_{name}"] = [
                [float(k) if name == "jd" else k + 1 for k in range(len(m))] for m in mags
            ]
        else:
            columns[f"lc_{name}"] = [[defaults[name]] * len(m) for m in mags]
    types = {f.name: f.type for f in LIGHT_CURVE_SCHEMA} | {"input_hash": pa.string()}
    return pa.RecordBatch.from_arrays(
        [pa.array(v, types[k]) for k, v in columns.items()], names=list(columns)
    )
