"""event_match: what it finds, and which objects a new revision makes stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.events import store
from ampel_spark.events.event import Event
from ampel_spark.events.notices import read_notices
from ampel_spark.events.store import EventTable
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.registry import build
from ampel_spark.t2.unit import Refusal
from tests.events.maps import NOTICE, gaussian, write_multi_order


def circle(name: str, jd: float = 2459000.5, **changes: Any) -> Event:
    given = {"ra": 10.0, "dec": 0.0, "major": 1.0, "minor": 1.0} | changes
    return Event(name, "IceCube", jd, "ellipse", **given)


def curve(name: str, ra: float, dec: float, jd: list[float], **more: Any) -> LightCurve:
    mag = more.pop("mag", [18.0] * len(jd))
    return LightCurve.of(name, stock=hash(name) % 1000, jd=jd, mag=mag, magerr=0.1, ra=ra, dec=dec,
                         **more)  # fmt: skip


def unit(lake: Path, **config: Any) -> Any:
    version = EventTable.open(lake).version
    return build(
        "event_match", {"catalog": str(lake / "events"), "version": version} | config, lake
    )


def test_the_best_event_or_all_of_them_are_found_within_the_window(tmp_path: Path) -> None:
    store.add(tmp_path, [circle("wide", major=3.0, minor=3.0), circle("narrow"),
                         circle("late", jd=2459100.5, major=0.5, minor=0.5)])  # fmt: skip
    one = curve("one", 10.1, 0.0, [2459002.5, 2459010.5, 2459099.5], mag=[19.0, 17.0, 18.0])
    out = curve("out", 15.0, 0.0, [2459002.5])
    none = LightCurve.of("none", jd=[2459000.0])
    batch = LightCurveBatch.of([one, out, none])
    found = unit(tmp_path, before=0, after=30).process_batch(batch)
    assert found["matched"].to_pylist() == [True, False, None]
    assert found["n_events"].to_pylist() == [2, 0, None]
    assert found["event"].to_pylist() == ["narrow", None, None]
    assert found["time_offset"].to_pylist() == [-2.0, None, None]
    assert found["level"][0].as_py() == pytest.approx(1 - 0.1**0.01)
    assert found["status"].tolist() == [0, 0, -2008]
    several = unit(tmp_path, how="all", time="any", before=5).process_batch(batch)
    assert several["event"].to_pylist() == [["late", "narrow", "wide"], [], None]
    assert several["time_offset"].to_pylist()[0] == [1.0, -2.0, -2.0]
    peak = unit(tmp_path, time="peak").process_batch(batch)
    assert peak["time_offset"][0].as_py() == 2459100.5 - 2459010.5
    assert unit(tmp_path, time="last").process(one)["time_offset"] == 1.0
    with pytest.raises(Refusal):
        unit(tmp_path).process(none)


def test_a_sky_map_gives_the_distance_in_sigma(tmp_path: Path) -> None:
    path = write_multi_order(tmp_path / "s.fits", gaussian(4, 50.0, 10.0, 8.0))
    store.add(tmp_path / "lake", read_notices([path]).events)
    near = curve("near", 50.0, 10.0, [2460380.5], results={"host": {"status": 0, "z": 0.03}})
    none = curve("none", 50.0, 10.0, [2460380.5], results={"host": {"status": 0, "z": None}})
    config = {"redshift": {"unit": "host", "column": "z"}}
    found = unit(tmp_path / "lake", **config).process_batch(LightCurveBatch.of([near, none]))
    # AMPEL's own number for z 0.03 and 120 +- 20 Mpc (Planck 2015)
    assert found["distance_pull"][0].as_py() == pytest.approx(0.790, abs=0.001)
    assert found["distance_pull"][1].as_py() is None
    density, both = (found[name][0].as_py() for name in ("density", "density_3d"))
    assert both == pytest.approx(density * np.exp(-0.5 * 0.790**2), rel=0.002)
    assert unit(tmp_path / "lake", **config).needs() == ("host",)


def test_a_revision_makes_stale_what_its_old_or_new_region_and_window_hold(tmp_path: Path) -> None:
    store.add(tmp_path, [circle("A"), circle("B", ra=100.0)])
    curves = [curve(str(ra), ra, 0.0, [2459001.0]) for ra in (9.5, 10.5, 11.5, 12.5, 100.0, 200.0)]
    curves.append(curve("long ago", 10.5, 0.0, [2457000.0]))
    batch = LightCurveBatch.of(curves)

    def hashes() -> list[str]:
        return [*unit(tmp_path, before=10, after=10).inputs(batch)]

    before = hashes()
    store.add(tmp_path, [circle("A", ra=11.0, type="update")])
    after = hashes()
    moved = [one != two for one, two in zip(before, after, strict=True)]
    assert moved == [True, True, True, False, False, False, False]
    store.add(tmp_path, [Event("A", "IceCube", np.nan, "none", type="retraction")])
    gone = hashes()
    assert [one != two for one, two in zip(after, gone, strict=True)] == [
        False, True, True, False, False, False, False]  # fmt: skip
    store.add(tmp_path, [circle("C", ra=300.0)])
    assert hashes() == gone


def test_the_version_that_a_job_pinned_stays_what_is_read(tmp_path: Path) -> None:
    store.add(tmp_path, [circle("A")])
    pinned = unit(tmp_path)
    store.add(tmp_path, [Event("A", "IceCube", np.nan, "none", type="retraction")])
    one = curve("one", 10.0, 0.0, [2459002.5])
    assert pinned.process(one)["event"] == "A"
    assert unit(tmp_path).process(one)["matched"] is False


def test_a_result_belongs_to_place_and_times_alone(tmp_path: Path) -> None:
    store.add(tmp_path, [circle("A")])
    dim = curve("one", 10.0, 0.0, [1.0, 2.0], mag=[19.0, 18.0])
    bright = curve("one", 10.0, 0.0, [1.0, 2.0], mag=[18.9, 17.9])
    other = curve("one", 10.0, 0.0, [1.0, 2.0], mag=[17.0, 18.0])
    said = unit(tmp_path, time="peak").subjects(LightCurveBatch.of([dim, bright, other]))
    assert said[0] == said[1] != said[2]


def test_a_file_of_notices_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps([NOTICE, NOTICE | {"ra": 345.9, "alert_type": "update"}]))
    one = curve("one", 345.82, 9.01, [2460051.0])
    made = build("event_match", {"catalog": "events.json"}, tmp_path)
    assert made.process(one)["revision"] == 1
    path.write_text(json.dumps([NOTICE, NOTICE | {"ra": None}]))
    with pytest.raises(ConfigError, match="notice 2: ra is missing"):
        made.process(one)
    (tmp_path / "a.csv").write_text("event\n")
    with pytest.raises(ConfigError, match="lake: events"):
        build("event_match", {"catalog": "a.csv"}, tmp_path).process(one)
