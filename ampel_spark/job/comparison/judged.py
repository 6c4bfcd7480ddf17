"""What T0 decided of objects that one run has no state of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.job.comparison.differences import filter_changes, summary
from ampel_spark.job.comparison.sides import Side
from ampel_spark.lake.decisions import decisions_of

__all__ = ["note_cuts"]

Array = npt.NDArray[Any]

_DECISION = ["stock", "alert_id", "jd", "accepted", "cut", "value", "threshold"]


def note_cuts(
    out: pd.DataFrame,
    sides: tuple[Side, Side],
    channels: tuple[str, str],
    mask: Array,
    gone: bool,
) -> None:
    """Note, for objects without a state, the first alert that one run accepts and the other not.

    Parameters
    ----------
    out : DataFrame
        Changes, to be filled in.
    sides : tuple of Side
        The runs before and after.
    channels : tuple of str
        The channel in each.
    mask : ndarray of bool
        Which rows of `out`.
    gone : bool
        The objects are lost, and not gained: it is the run after that lacks them.
    """
    if not mask.any():
        return
    at = np.flatnonzero(mask)
    stocks = out["stock"].to_numpy()[at]
    there, lacking = sides if gone else sides[::-1]
    mine, other = channels if gone else channels[::-1]
    accepted = _decisions(there, mine, stocks)
    accepted = accepted[accepted["accepted"]]
    judged = _decisions(lacking, other, stocks)
    pairs = accepted[["stock", "alert_id", "jd"]].merge(
        judged.drop(columns="jd"), on=["stock", "alert_id"]
    )
    first = pairs.sort_values(["stock", "jd", "alert_id"]).drop_duplicates("stock")
    # an object with an accepted alert of any kind has passed T0
    passed = np.isin(stocks, judged.loc[judged["accepted"], "stock"])
    rows = pd.DataFrame({"stock": stocks}).merge(first, on="stock", how="left")
    none = rows["alert_id"].isna().to_numpy()
    out.loc[at, "reason"] = np.select(
        [passed, none], ["no state", "not judged"], default="cut"
    ).astype(object)
    out.loc[at, "what"] = np.select(
        [passed, none],
        [
            "accepted, but nothing is left for a state",
            f"run {lacking.run_id} saw none of its alerts",
        ],
        default=rows["cut"].fillna("").to_numpy(object),
    ).astype(object)
    cut = ~passed & ~none
    out.loc[at[cut], "alert_id"] = rows.loc[cut, "alert_id"].astype(np.int64).to_numpy()
    value = "value_b" if gone else "value_a"
    out.loc[at[cut], value] = rows.loc[cut, "value"].to_numpy(float)
    out.loc[at[cut], "threshold"] = rows.loc[cut, "threshold"].to_numpy(float)
    changed = summary(filter_changes(sides[0].run, sides[1].run, *channels))
    out.loc[at[cut], "cause"] = f"T0: {changed}" if changed else "T0: what the alerts had shown"
    out.loc[at[~cut], "cause"] = _inputs(sides)


def _decisions(side: Side, channel: str, stocks: Array) -> pd.DataFrame:
    mine = pc.field("stock").isin(pa.array(np.unique(stocks)))
    found: pd.DataFrame = decisions_of(side.lake, side.run, [channel], mine, _DECISION).to_pandas()
    return found


def _inputs(sides: tuple[Side, Side]) -> str:
    names = ("as_of_jd", "alerts", "datapoints")
    inputs = [side.run.inputs.to_json() for side in sides]
    parts = [
        f"{name} {inputs[0].get(name, '–')} → {inputs[1].get(name, '–')}"
        for name in names
        if inputs[0].get(name) != inputs[1].get(name)
    ]
    return "inputs: " + "; ".join(parts) if parts else ""
