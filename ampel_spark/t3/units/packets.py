"""Candidates as packets for other services: JSON, or VOEvent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import File, Message, Output, T3Unit

__all__ = ["Packets"]

_VOEVENT = "http://www.ivoa.net/xml/VOEvent/v2.0"
#: The Unix epoch, as JD.
_UNIX = 2440587.5


class Packets(T3Unit):
    """A packet for each candidate: position, newest detection, and the columns asked for."""

    form: Literal["json", "voevent"] = "json"
    "JSON, or VOEvent 2.0."
    columns: dict[str, str] = Field(default_factory=dict)
    "What goes into it, label: expression; none: the columns of the selection."
    author: str = "ampel_spark"
    "Who says so: the authority of a VOEvent's identifier."
    points: bool = False
    "Whether a JSON packet has the light curve."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        return [*self.columns.values()]

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield a file for each candidate."""
        labels = self.columns or {
            label: label
            for label in sample.table.column_names
            if label not in ("rank", "name", "stock", "state_id", "channel")
            and not sample.types.get(label, "").startswith("array")
        }
        values = {label: sample.values(text).tolist() for label, text in labels.items()}
        run_id = "" if sample.run is None else sample.run.run_id
        written = 0
        for i, curve in enumerate(sample.light_curves()):
            ra, dec = curve.position()
            newest = curve.detections.jd
            content: dict[str, Any] = {
                "name": sample.names[i],
                "selection": sample.name,
                "run": run_id,
                "state": curve.state_id,
                "ra": _plain(ra),
                "dec": _plain(dec),
                "jd": _plain(newest[-1]) if len(newest) else None,
                "values": {label: _plain(column[i]) for label, column in values.items()},
            }
            safe = re.sub(r"[^\w.+-]", "_", sample.names[i])
            if self.form == "voevent":
                yield File(f"{safe}.xml", self._voevent(content, sample))
            else:
                if self.points:
                    frame = curve.to_pandas()
                    content["points"] = json.loads(frame.to_json(orient="records"))
                yield File(f"{safe}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            written += 1
        yield Message(f"{written} packets as {self.form}")

    def _voevent(self, content: dict[str, Any], sample: Sample) -> bytes:
        name = re.sub(r"[^\w.+-]", "_", f"{sample.name}-{content['name']}")
        event = ElementTree.Element(
            "voe:VOEvent",
            {"xmlns:voe": _VOEVENT, "version": "2.0", "role": "observation",
             "ivorn": f"ivo://{self.author}/candidates#{name}-{content['state'][:12]}"},
        )  # fmt: skip
        who = ElementTree.SubElement(event, "Who")
        ElementTree.SubElement(who, "AuthorIVORN").text = f"ivo://{self.author}"
        if sample.run is not None:
            ElementTree.SubElement(who, "Date").text = f"{sample.run.started:%Y-%m-%dT%H:%M:%S}"
        what = ElementTree.SubElement(event, "What")
        about = {key: content[key] for key in ("name", "selection", "run", "state")}
        for label, value in (about | content["values"]).items():
            if value is not None:
                ElementTree.SubElement(what, "Param", _param(label, value, sample))
        if content["ra"] is not None:
            _where(ElementTree.SubElement(event, "WhereWhen"), content)
        ElementTree.indent(event)
        return ElementTree.tostring(event, "utf-8", xml_declaration=True) + b"\n"


def _param(label: str, value: Any, sample: Sample) -> dict[str, str]:
    number = isinstance(value, float) and not isinstance(value, bool)
    unit = {"unit": sample.units[label]} if sample.units.get(label) else {}
    kind = {"dataType": "float" if number else "string"}
    return {"name": label, "value": repr(value) if number else str(value), **unit, **kind}


def _where(parent: ElementTree.Element, content: dict[str, Any]) -> None:
    def under(element: ElementTree.Element, *names: str) -> ElementTree.Element:
        for name in names:
            element = ElementTree.SubElement(element, name)
        return element

    location = under(parent, "ObsDataLocation", "ObservationLocation")
    ElementTree.SubElement(location, "AstroCoordSystem", {"id": "UTC-ICRS-TOPO"})
    coords = ElementTree.SubElement(location, "AstroCoords", {"coord_system_id": "UTC-ICRS-TOPO"})
    if content["jd"] is not None:
        moment = np.datetime64(round((content["jd"] - _UNIX) * 86_400_000), "ms")
        under(coords, "Time", "TimeInstant", "ISOTime").text = str(moment)
    position = ElementTree.SubElement(coords, "Position2D", {"unit": "deg"})
    ElementTree.SubElement(position, "Name1").text = "RA"
    ElementTree.SubElement(position, "Name2").text = "Dec"
    value = under(position, "Value2")
    ElementTree.SubElement(value, "C1").text = repr(content["ra"])
    ElementTree.SubElement(value, "C2").text = repr(content["dec"])


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; NaN is null."""
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value
