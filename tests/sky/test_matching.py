"""The match: three engines that agree to the last bit, and astropy; then every awkward case."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.sky.angles import moved, separation
from ampel_spark.sky.matching import ENGINES, Motion, Pairs, match, within_counts
from tests.sky.skies import awkward_sky

Floats = NDArray[np.float64]


def same(a: Pairs, b: Pairs) -> bool:
    """Say whether two answers are equal to the last bit."""
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def agreed(*args: Any, **options: Any) -> Pairs:
    """Match with all engines, and return the answer that they agree on."""
    answers = [match(*args, **options, engine=engine) for engine in ENGINES]
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])
    return answers[0]


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0, 60.0, 300.0])
def test_all_pairs_are_those_of_astropy(radius: float) -> None:
    n = 6000 if radius < 100 else 3000
    ra, dec = awkward_sky(n, seed=1)
    rng = np.random.default_rng(2)
    ra2 = ra + rng.normal(0, radius / 7200, len(ra))
    dec2 = np.clip(dec + rng.normal(0, radius / 7200, len(ra)), -90, 90)
    pairs = agreed(ra, dec, ra2, dec2, radius, how="all")
    left, row, distance, _ = search_around_sky(
        SkyCoord(ra, dec, unit="deg"), SkyCoord(ra2, dec2, unit="deg"), radius * u.arcsec
    )
    order, ours = np.lexsort((row, left)), np.lexsort((pairs.row, pairs.left))
    assert len(left) > 500
    np.testing.assert_array_equal(pairs.left[ours], left[order])
    np.testing.assert_array_equal(pairs.row[ours], row[order])
    np.testing.assert_allclose(pairs.distance[ours], distance.arcsec[order], atol=1e-9)


@pytest.mark.parametrize("radius", [2.0, 300.0])
def test_the_nearest_and_the_k_nearest_are_the_first_of_all(radius: float) -> None:
    ra, dec = awkward_sky(3000, seed=3)
    everything = agreed(ra, dec, ra, dec, radius, how="all")
    first = np.flatnonzero(np.diff(everything.left, prepend=-1))
    nearest = agreed(ra, dec, ra, dec, radius)
    assert same(nearest, Pairs(*(values[first] for values in everything)))
    assert same(nearest, agreed(ra, dec, ra, dec, radius, how="any"))
    three = agreed(ra, dec, ra, dec, radius, how="k", k=3)
    counts = within_counts(everything, len(ra))
    np.testing.assert_array_equal(within_counts(three, len(ra)), np.minimum(counts, 3))
    assert set(zip(three.left, three.row, strict=True)) <= set(
        zip(everything.left, everything.row, strict=True)
    )
    # an index that astropy chooses differently is a tie
    _, apart, _ = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(SkyCoord(ra, dec, unit="deg"))
    np.testing.assert_allclose(nearest.distance, apart.arcsec, atol=1e-9)


# 1, 2: right ascension 0, the poles
def test_right_ascension_goes_round_and_any_turn_of_it_is_the_same_place() -> None:
    pairs = agreed([359.9999, 0.0001, 360.0, -0.0001, 719.9999], np.zeros(5), [0.0001], [0.0], 1.0)
    np.testing.assert_allclose(pairs.distance, [0.72, 0.0, 0.36, 0.72, 0.72], atol=1e-9)
    ra, dec = awkward_sky(1000, seed=4)
    turned = match(ra - 360, dec, ra + 720, dec, 30.0, how="all")
    plain = match(ra, dec, ra, dec, 30.0, how="all")
    np.testing.assert_array_equal(np.sort(turned.row), np.sort(plain.row))


def test_a_circle_goes_over_the_pole() -> None:
    pairs = agreed([10.0, 77.0, 3.0], [89.9999, 90.0, -90.0], [190.0, 12.0], [89.9999, -90.0], 1.0)
    assert list(zip(pairs.left, pairs.row, strict=True)) == [(0, 0), (1, 0), (2, 1)]
    np.testing.assert_allclose(pairs.distance, [0.72, 0.36, 0.0], atol=1e-9)
    around = np.arange(0, 360, 30.0)
    wide = agreed([0.0], [89.99], around, np.full(12, 89.99), 80.0, how="all")  # pole at 36 arcsec
    assert len(wide.row) == 12


# 3: the edge of the radius
def test_a_row_at_the_radius_is_in_and_one_an_ulp_beyond_is_not() -> None:
    rng = np.random.default_rng(5)
    for ra, dec, apart in zip(
        rng.uniform(0, 360, 40), rng.uniform(-89, 89, 40), 10 ** rng.uniform(-4, 3, 40), strict=True
    ):
        other = dec + apart / 3600
        exactly = float(separation(ra, dec, ra, other))
        for radius, n in (
            (exactly, 1), (np.nextafter(exactly, 0), 0), (np.nextafter(exactly, 1e9), 1),
        ):  # fmt: skip
            for engine in ENGINES:
                assert len(match(ra, dec, ra, other, radius, engine=engine).row) == n
    assert len(agreed([5.0, 5.0], [5.0, 5.0 + 1e-9], [5.0], [5.0], 0.0).row) == 1


def test_the_inner_radius_is_in_too() -> None:
    ra, dec = np.zeros(4), np.array([0.0, 1.0, 2.0, 3.0]) / 3600
    two = float(separation(0.0, 0.0, 0.0, dec[2]))
    pairs = agreed([0.0], [0.0], ra, dec, 10.0, how="all", min_radius=two)
    np.testing.assert_array_equal(pairs.row, [2, 3])
    assert agreed([0.0], [0.0], ra, dec, 10.0, min_radius=two).row[0] == 2
    beyond = agreed([0.0], [0.0], ra, dec, 10.0, how="all", min_radius=np.nextafter(two, 9.0))
    np.testing.assert_array_equal(beyond.row, [3])


# 4: duplicates
def test_ties_go_to_the_smallest_key_whatever_the_order() -> None:
    rng = np.random.default_rng(6)
    ra, dec = np.repeat(rng.uniform(0, 1, 60), 5), np.repeat(rng.uniform(0, 1, 60), 5)
    ids = rng.permutation(300) * 7
    best = {i: int(ids[i // 5 * 5 : i // 5 * 5 + 5].min()) for i in range(300)}
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(300)
        pairs = agreed(ra, dec, ra[shuffled], dec[shuffled], 1.0, key=ids[shuffled], how="k", k=2)
        first = np.flatnonzero(np.diff(pairs.left, prepend=-1))
        found = ids[shuffled][pairs.row[first]]
        assert {int(i): int(v) for i, v in zip(pairs.left[first], found, strict=True)} == best


def test_each_of_several_equal_positions_has_its_row() -> None:
    pairs = agreed(np.full(50, 3.0), np.full(50, 4.0), [3.0], [4.0], 1.0)
    np.testing.assert_array_equal(pairs.left, np.arange(50))


# 5 (seams, corners) is in `awkward_sky`; through tiles: test_catalogs.py
# 6: what is no position, and nothing at all
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_position_is_near_nothing(bad: float) -> None:
    ra, dec = np.array([bad, 5.0, 5.0, 5.0]), np.array([5.0, bad, 90.000001, 5.0])
    np.testing.assert_array_equal(agreed(ra, dec, [5.0], [5.0], 1e5).left, [3])
    np.testing.assert_array_equal(agreed([5.0], [5.0], ra, dec, 1e5, how="all").row, [3])


def test_empty_sides_and_single_rows_are_no_special_case() -> None:
    none = np.empty(0)
    assert not len(agreed(none, none, [1.0], [1.0], 5.0).row)
    assert not len(agreed([1.0], [1.0], none, none, 5.0, how="all").row)
    assert list(agreed([1.0], [1.0], [1.0], [1.0], 5.0).row) == [0]


# 7: everything in one place, a cluster, one against many
def test_a_cluster_and_a_heap_in_one_place_are_matched_in_good_time() -> None:
    heap = match(np.full(60_000, 10.0), np.full(60_000, 5.0), np.full(60_000, 10.0),
                 np.full(60_000, 5.0), 60.0)  # fmt: skip
    assert set(heap.row.tolist()) == {0}
    assert len(heap.row) == 60_000
    rng = np.random.default_rng(7)
    ra = np.concatenate([rng.normal(250, 0.02, 800), rng.uniform(0, 360, 400)])
    dec = np.concatenate([rng.normal(36, 0.02, 800), rng.uniform(-90, 90, 400)])
    agreed(ra, dec, ra[::-1], dec[::-1], 60.0, how="k", k=4)
    many_ra, many_dec = rng.uniform(0, 360, 200_000), rng.uniform(-90, 90, 200_000)
    assert agreed([many_ra[123]], [many_dec[123]], many_ra, many_dec, 1.0).row[0] == 123


# 8: order and splits
def test_no_permutation_and_no_split_changes_an_id_or_a_bit() -> None:
    ra, dec = awkward_sky(1200, seed=8)
    ids = np.random.default_rng(9).permutation(len(ra))
    whole = match(ra, dec, ra, dec, 120.0, how="k", k=3, key=ids)
    expected = sorted(zip(whole.left, ids[whole.row], whole.distance, strict=True))
    for seed, size in ((1, 7), (2, 500), (3, 10_000)):
        rng = np.random.default_rng(seed)
        a, b = rng.permutation(len(ra)), rng.permutation(len(ra))
        found = []
        for begin in range(0, len(ra), size):
            part = a[begin : begin + size]
            pairs = match(ra[part], dec[part], ra[b], dec[b], 120.0, how="k", k=3, key=ids[b])
            found += list(zip(part[pairs.left], ids[b][pairs.row], pairs.distance, strict=True))
        assert sorted(found) == expected


# 9: k beyond what there is, nothing within
def test_k_may_be_more_than_there_is() -> None:
    pairs = agreed([0.0, 50.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1 / 3600], 5.0, how="k", k=9)
    assert list(zip(pairs.left, pairs.row, strict=True)) == [(0, 0), (0, 1)]
    assert not len(agreed([50.0], [0.0], [0.0], [0.0], 5.0, how="all").row)


# 11: other kinds of numbers
def test_single_precision_and_integers_are_taken_as_the_numbers_they_are() -> None:
    ra = np.array([10.1, 20.2], np.float32)
    pairs = agreed(ra, [1, 2], ra.astype(np.float64), [1.0, 2.0], 0.0)
    np.testing.assert_array_equal(pairs.row, [0, 1])


# 14: radii of one's own
def test_each_position_may_have_its_own_radii() -> None:
    pairs = agreed([0.0] * 3, [0.001] * 3, [0.0], [0.0], [3.0, 4.0, 4.0], min_radius=[0, 0, 3.7])
    np.testing.assert_array_equal(pairs.left, [1])
    ra, dec = awkward_sky(1500, seed=10)
    radius = np.random.default_rng(11).uniform(0, 200, len(ra))
    pairs = agreed(ra, dec, ra, dec, radius, how="all")
    widest = match(ra, dec, ra, dec, radius.max(), how="all")
    assert len(pairs.row) == (widest.distance <= radius[widest.left]).sum()


# 15: proper motion
def test_rows_are_met_where_they_are_at_the_epoch() -> None:
    rng = np.random.default_rng(12)
    ra, dec = awkward_sky(1000, seed=13)
    n = len(ra)
    pmra, pmdec = rng.normal(0, 300, n), rng.normal(0, 300, n)
    pmra[:5], pmdec[:5] = 8000.0, -6000.0  # like Barnard's star
    pmra[5:8] = pmdec[8:11] = np.nan
    epoch = rng.choice([2000.0, 2015.5, np.nan], n)
    at = rng.uniform(2018, 2026, n)
    to_ra, to_dec = moved(ra, dec, pmra, pmdec, at - epoch)
    motion = Motion(pmra, pmdec, epoch)
    pairs = agreed(to_ra, to_dec, ra, dec, 1.0, motion=motion, epoch=at, how="all")
    same_row = pairs.left == pairs.row
    assert same_row.sum() == n
    assert pairs.distance[same_row].max() < 1e-8
    # the truth, by brute force
    for i in range(0, n, 97):
        there = moved(ra, dec, pmra, pmdec, at[i] - epoch)
        apart = (
            SkyCoord(*there, unit="deg")
            .separation(SkyCoord(to_ra[i], to_dec[i], unit="deg"))
            .arcsec
        )
        np.testing.assert_array_equal(
            np.sort(pairs.row[pairs.left == i]), np.flatnonzero(apart <= 1.0)
        )
    # without an epoch rows stay where they are
    still = match(ra, dec, ra, dec, 1.0, motion=motion, epoch=np.nan, how="all")
    assert same(still, match(ra, dec, ra, dec, 1.0, how="all"))


@pytest.mark.parametrize("radius", [-1.0, np.nan, 180 * 3600.0])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    with pytest.raises(ConfigError, match="arcsec"):
        match([0.0], [0.0], [0.0], [0.0], radius)


def test_unknown_choices_are_told_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        match([0.0], [0.0], [0.0], [0.0], 1.0, how="nerest")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="engine = 'gird'; did you mean 'grid'"):
        match([0.0], [0.0], [0.0], [0.0], 1.0, engine="gird")
    with pytest.raises(ConfigError, match="k = 0"):
        match([0.0], [0.0], [0.0], [0.0], 1.0, how="k", k=0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-400, 800), st.floats(-90, 90)), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(-400, 800), st.floats(-90, 90)), min_size=1, max_size=30),
    st.floats(0, 170 * 3600.0),
    st.sampled_from(["nearest", "all", "k"]),
)
def test_engines_agree_on_any_sky(
    left: list[tuple[float, float]], rows: list[tuple[float, float]], radius: float, how: Any
) -> None:
    (ra, dec), (ra2, dec2) = np.array(left).T, np.array(rows).T
    agreed(ra, dec, ra2, dec2, radius, how=how, k=2)
