"""Objects: how many, where, and how they are numbered."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.simulate.objects import KINDS, Objects, Sky
from ampel_spark.simulate.population import (
    SHARES,
    counts_for_alerts,
    counts_for_objects,
    cut_to,
    make_objects,
)
from ampel_spark.simulate.survey import make_schedule
from ampel_spark.sky.dust import galactic


@pytest.fixture(scope="module")
def objects(sky: Sky) -> Objects:
    return make_objects(dict.fromkeys(KINDS, 400), sky)


def of(objects: Objects, *kinds: str) -> Objects:
    return objects[np.isin(objects["kind"], [KINDS.index(kind) for kind in kinds])]


def test_shares_are_shares() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert tuple(SHARES) == KINDS


@pytest.mark.parametrize("number", [1, 10, 12_345])
def test_objects_are_shared_out_without_rest(number: int) -> None:
    assert sum(counts_for_objects(number, 60).values()) == number


def test_more_alerts_take_more_objects_and_longer_archives_fewer() -> None:
    few, many = counts_for_alerts(2_000, 60), counts_for_alerts(200_000, 60)
    longer = counts_for_alerts(200_000, 300)
    assert all(50 * few[kind] < 2 * many[kind] for kind in few)
    assert all(longer[kind] < many[kind] for kind in few)


def test_names_and_numbers_on_images_are_used_once(objects: Objects, sky: Sky) -> None:
    more = make_objects({"bogus": 400}, sky, before=objects)
    both = np.concatenate([objects, more])
    assert np.array_equal(both["index"], np.arange(both.size))
    assert np.unique(both["number"]).size == both.size
    channels = np.stack([both["field"], both["rcid"], both["tblid"]])
    assert np.unique(channels, axis=1).shape[1] == both.size


def test_extragalactic_objects_are_off_the_plane_and_stars_crowd_there(objects: Objects) -> None:
    latitude = np.abs(galactic(objects["ra"], objects["dec"])[1])
    outside = np.isin(objects["kind"], [0, 1, 2])
    assert latitude[outside].min() > 10.0
    stars = objects["kind"] == KINDS.index("variable")
    assert np.median(latitude[stars]) < 20.0 < np.median(latitude[outside])


def test_supernovae_lie_as_far_as_volume_has_it(objects: Objects) -> None:
    z = of(objects, "snia")["z"]
    assert (z.min() > 0.015) & (z.max() < 0.12)
    # Half of the volume out to 0.12 is beyond 0.095.
    assert np.median(z) == pytest.approx(0.095, abs=0.006)


def test_standardised_magnitudes_scatter_by_a_tenth(objects: Objects) -> None:
    items = of(objects, "snia")
    standard = items["abs_mag"] + 0.14 * items["x1"] - 3.1 * items["c"]
    assert standard.mean() == pytest.approx(-19.36, abs=0.02)
    assert standard.std() == pytest.approx(0.10, abs=0.015)


def test_once_seen_objects_are_seen_in_nights_of_the_archive(objects: Objects, sky: Sky) -> None:
    items = of(objects, "asteroid", "bogus")
    schedule = sky.schedule
    fields = np.searchsorted(schedule.start, items["row"], side="right") - 1
    assert np.array_equal(fields, items["field"])
    for row in ("row", "row2"):
        chosen = items[items[row] >= 0]
        nid = schedule.nid[chosen[row]]
        assert (nid >= sky.first_nid).all() & (nid <= sky.last_nid).all()
        assert not schedule.images(chosen[row], chosen["rcid"], sky.seed).lost.any()
    twice = items[items["row2"] >= 0]
    days = schedule.jd[twice["row"]] - schedule.jd[twice["row2"]]
    assert (days > 0.0).all() & (days < 20.0).all()
    assert 20 < twice.size < 200


@pytest.mark.parametrize("alerts", [0, 1, 17, 300])
def test_cutting_meets_the_number_of_alerts(alerts: int, objects: Objects) -> None:
    kept = cut_to(alerts, of(objects, "asteroid", "bogus"))
    assert (1 + (kept["row2"] >= 0)).sum() == alerts
    kept = cut_to(alerts, of(objects, "bogus"))
    assert (1 + (kept["row2"] >= 0)).sum() == alerts


def test_a_sky_that_is_never_open_is_an_error(sky: Sky) -> None:
    closed = next(nid for nid in range(sky.first_nid, sky.last_nid) if nid not in sky.schedule.nid)
    schedule = make_schedule(sky.grid, sky.first_nid - 31, sky.last_nid, sky.seed)
    alone = Sky(sky.grid, schedule, closed, closed, sky.dust, sky.seed)
    with pytest.raises(ConfigError, match="no night open"):
        make_objects({"snia": 1}, alone)
