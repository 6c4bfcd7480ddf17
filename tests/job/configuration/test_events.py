"""Events of a lake as a catalogue of a job: pinned, recorded, or refused with the cure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.events import store
from ampel_spark.events.event import Event
from ampel_spark.events.store import EventTable
from ampel_spark.job.configuration.catalogs import catalog_inputs
from ampel_spark.job.configuration.load import load_job

JOB = """\
name: neutrinos
lake: lake
archive: {simulate: {alerts: 100, nights: 10, first_night: 2020-01-01, seed: 3}}
catalog:
  ic: {lake: events}
channel:
- {name: All, access: [ZTF_PUB]}
t0:
- {channel: All, filter: All}
t2:
- {unit: event_match, config: {catalog: ic, time: peak, before: 365, after: 0}}
t3:
- {channel: All, select: event_match.matched}
"""


def test_a_job_pins_the_version_of_the_events_and_a_record_names_it(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(JOB)
    with pytest.raises(ConfigError, match="ampel-spark event add FILE"):
        load_job(tmp_path / "job.yml")
    event = Event("IC1", "IceCube", 2459000.5, "ellipse", ra=1.0, dec=2.0, major=1.0, minor=1.0)
    store.add(tmp_path / "lake", [event])
    job = load_job(tmp_path / "job.yml")
    unit = job.units[0].unit
    assert (unit.version, unit.catalog) == (1, tmp_path / "lake" / "events")  # type: ignore[attr-defined]
    assert job.units[0].config["catalog"] == "ic"
    recorded = catalog_inputs(job.catalogs)["ic"]
    table = EventTable.open(tmp_path / "lake")
    assert (recorded.lake, recorded.version) == ("events", 1)
    assert any("version 1, 1 events" in note for note in job.notes)
    gone = Event("IC1", "IceCube", np.nan, "none", type="retraction")
    store.add(tmp_path / "lake", [gone])
    assert load_job(tmp_path / "job.yml").units[0].unit.version == 2  # type: ignore[attr-defined]
    again = load_job(tmp_path / "job.yml", ["catalog.ic.version=1"])
    assert catalog_inputs(again.catalogs)["ic"] == recorded
    assert recorded.hash == table.content_hash
    with pytest.raises(ConfigError, match="have no version 9"):
        load_job(tmp_path / "job.yml", ["catalog.ic.version=9"])
