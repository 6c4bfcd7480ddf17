"""What the head of an object's table says of it: its redshift, and the Milky Way's E(B-V)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.unit import Column, Unit

__all__ = ["ObjectHeader"]


class ObjectHeader(Unit):
    """Redshift and E(B-V) as the object's own photometry table has them.

    A survey's settings say where: `redshift` and `mwebv` of the section `photometry`. The newest
    table counts. An object of which neither is known has a row without them.
    """

    reads_header = True
    input_fields = ()
    columns = (
        Column("z", "double", "", "redshift"),
        Column("ebv", "double", "mag", "E(B-V) of the Milky Way"),
        Column("header", "string", "", "all that is kept of the table's head, as JSON"),
    )

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Return what is read: no photometry is looked at."""
        rows = batch.results.get("_header", [None] * len(batch))
        return [str((row or {}).get("header")) for row in rows]

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Read one head."""
        text = (light_curve.results.get("_header") or {}).get("header")
        found = json.loads(text) if text else {}
        return {"z": found.get("redshift"), "ebv": found.get("mwebv"), "header": text}
