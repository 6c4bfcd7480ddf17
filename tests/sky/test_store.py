"""Catalogues of a lake: versions, hashes, parts of the sky, and what a change touches."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.sky import store, tiles
from ampel_spark.sky.angles import moved, separation
from ampel_spark.sky.catalogs import Catalog, StoredCatalog
from ampel_spark.sky.store import Stored, add, compare, folder_of
from ampel_spark.sky.tiles import canonical, cut
from tests.sky.skies import awkward_sky


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a few thousand rows into hundreds of tiles, row groups and some files."""
    monkeypatch.setattr(tiles, "CAP", 40)
    monkeypatch.setattr(store, "_GROUP", 64)
    monkeypatch.setattr(store, "_FILE", 1500)


def sky(n: int = 2000, seed: int = 1) -> pa.Table:
    ra, dec = awkward_sky(n, seed)
    rng = np.random.default_rng(seed)
    return pa.table(
        {"id": rng.permutation(n) * 3, "ra": ra, "dec": dec, "z": rng.random(n),
         "name": pa.array([None if i % 7 == 0 else f"n{i}" for i in range(n)])}
    )  # fmt: skip


def test_content_alone_decides_the_hash_whatever_order_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = sky()
    first, new = add(tmp_path / "a", "galaxies", table)
    assert new
    monkeypatch.setattr(store, "_GROUP", 500)
    shuffled = table.take(np.random.default_rng(2).permutation(len(table)))
    second, _ = add(tmp_path / "b", "galaxies", shuffled)
    assert first.content_hash == second.content_hash
    assert first.tiles.hash == second.tiles.hash
    assert len(first.tiles.hash) > 100
    assert first.tiles.rows.sum() == len(table)
    again, new = add(tmp_path / "a", "galaxies", shuffled)
    assert (again.version, new) == (0, False)


def test_every_value_and_every_null_counts() -> None:
    table = pa.table({"ra": [1.0, 2.0], "dec": [0.0, 0.0], "z": [0.1, None], "name": ["ab", "c"]})
    hashes = {cut(canonical(table)).content_hash}
    for column, values in (
        ("z", [0.1, 0.0]), ("z", [None, 0.1]), ("z", [0.1, float("nan")]), ("name", ["a", "bc"]),
        ("name", ["ab", None]), ("ra", [1.0, 2.0000000001]),
    ):  # fmt: skip
        i = table.column_names.index(column)
        kind = table.schema.field(column).type
        changed = table.set_column(i, column, pa.array(values, kind))
        hashes.add(cut(canonical(changed)).content_hash)
    assert len(hashes) == 7
    turned = table.set_column(0, "ra", pa.array([361.0, -358.0]))
    assert cut(canonical(turned)).content_hash in hashes


def test_a_match_against_stored_tiles_is_that_against_the_whole(tmp_path: Path) -> None:
    table = sky(3000)
    add(tmp_path, "galaxies", table)
    stored = StoredCatalog(folder_of(tmp_path, "galaxies"))
    whole = Catalog.of(canonical(table))
    ra, dec = awkward_sky(3000, seed=1)
    some = np.random.default_rng(3).choice(3000, 400, replace=False)
    for radius in (0.5, 300.0, 20_000.0):
        for how in ("nearest", "all"):
            if radius > 1000 and how == "all":
                continue
            part = stored.around(ra[some], dec[some], radius)
            a = part.match(ra[some], dec[some], radius, how=how)  # type: ignore[arg-type]
            b = whole.match(ra[some], dec[some], radius, how=how)  # type: ignore[arg-type]
            np.testing.assert_array_equal(a.left, b.left)
            np.testing.assert_array_equal(a.distance, b.distance)
            assert part.take(a.row).equals(whole.take(b.row))
    one = stored.around([ra[5]], [dec[5]], 1.0)
    assert len(one) < 800


@pytest.mark.parametrize("radius", [1.0, 400.0, 30_000.0])
def test_a_change_touches_those_within_reach_and_few_others(tmp_path: Path, radius: float) -> None:
    table = sky()
    before, _ = add(tmp_path, "galaxies", table)
    moved = 1234
    z = table["z"].to_numpy().copy()
    z[moved] += 0.5
    after, _ = add(tmp_path, "galaxies", table.set_column(3, "z", pa.array(z)))
    assert (before.version, after.version) == (0, 1)
    change = compare(before, after)
    assert len(change.changed) == 1
    assert change.same == len(before.tiles.hash) - 1
    ra, dec = awkward_sky(2000, seed=1)
    radii = np.full(2000, radius)
    told = [np.array(v.tiles.inputs(ra, dec, radii)) for v in (before, after)]
    stale = told[0] != told[1]
    near = separation(ra, dec, ra[moved], dec[moved]) <= radius
    assert (stale | ~near).all()
    if radius < 1000:
        assert stale.mean() < 0.2


def test_where_there_is_nothing_something_new_is_seen(tmp_path: Path) -> None:
    empty_here = pa.table({"ra": [200.0], "dec": [40.0]})
    before, _ = add(tmp_path, "few", empty_here)
    both = pa.table({"ra": [200.0, 10.0], "dec": [40.0, -20.0]})
    after, _ = add(tmp_path, "few", both)
    ra, dec, radius = np.array([10.0]), np.array([-20.0]), np.array([5.0])
    assert before.tiles.inputs(ra, dec, radius) != after.tiles.inputs(ra, dec, radius)


def test_old_versions_stay_readable_also_after_columns_changed(tmp_path: Path) -> None:
    table = sky(500)
    add(tmp_path, "galaxies", table)
    add(tmp_path, "galaxies", table.append_column("mass", table["z"]).drop_columns(["name"]))
    folder = folder_of(tmp_path, "galaxies")
    old, new = StoredCatalog(folder, 0), StoredCatalog(folder, 1)
    assert old.column_types() == {"z": "double", "name": "string"}
    assert new.column_types() == {"z": "double", "mass": "double"}
    assert old.around([0.0], [0.0], 179 * 3600.0).table.column_names == ["z", "name"]
    rows = DeltaTable(str(folder / "rows"))
    assert rows.to_pyarrow_table().num_rows == 500
    assert rows.schema().fields[1].metadata["comment"].startswith("right ascension")


def test_ids_may_be_text_and_decide_between_rows_at_one_distance(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n = 300
    ra, dec = np.repeat(rng.uniform(0, 360, n // 3), 3), np.repeat(rng.uniform(-80, 80, n // 3), 3)
    text = np.array([f"star {i}" for i in rng.permutation(n)])
    for kind, ids in (("text", text), ("long", rng.permutation(n) + 2**62)):
        first = np.array([min(ids[i : i + 3]) for i in range(0, n, 3)])
        for seed in (1, 2):
            order = np.random.default_rng(seed).permutation(n)
            table = pa.table({"id": ids[order].tolist(), "ra": ra[order], "dec": dec[order],
                              "name": ids[order].tolist()})  # fmt: skip
            stored, _ = add(tmp_path / f"{kind}{seed}", "stars", table)
            near = StoredCatalog(stored.path).around(ra[::3], dec[::3], 1.0)
            pairs = near.match(ra[::3], dec[::3], 1.0)
            assert near.take(pairs.row)["name"].to_pylist() == first.tolist()


def test_a_star_is_met_in_the_tile_that_it_went_to(tmp_path: Path) -> None:
    ra, dec = awkward_sky(1500, seed=6)
    rng = np.random.default_rng(7)
    motion = {"pmra": rng.normal(0, 9e4, 1500), "pmdec": rng.normal(0, 9e4, 1500)}
    motion["pmra"][::5] = np.nan
    epoch = np.where(np.arange(1500) % 11, 2000.0, np.nan)
    table = pa.table({"id": np.arange(1500), "ra": ra, "dec": dec, **motion, "epoch": epoch})
    add(tmp_path, "stars", table)
    whole = Catalog.of(canonical(table))
    stored = StoredCatalog(folder_of(tmp_path, "stars"))
    assert whole.motion is not None
    # where each star was seen thirty years later, some up to three degrees away
    years = np.full(1500, 2030.0)
    at = moved(whole.ra, whole.dec, whole.motion.pmra, whole.motion.pmdec,
               years - whole.motion.epoch)  # fmt: skip
    reach = 1.0 + stored.reach(years)
    for i in range(0, 1500, 50):
        mine = slice(i, i + 50)
        near = stored.around(at[0][mine], at[1][mine], reach[mine])
        a = near.match(at[0][mine], at[1][mine], 1.0, how="all", epoch=years[mine])
        b = whole.match(at[0][mine], at[1][mine], 1.0, how="all", epoch=years[mine])
        assert len(a.row) > 30
        np.testing.assert_array_equal(a.distance, b.distance)


def test_rows_without_a_position_are_left_out_and_counted(tmp_path: Path) -> None:
    table = pa.table({"ra": [1.0, None, 3.0], "dec": [0.0, 0.0, 95.0]})
    stored, _ = add(tmp_path, "few", table)
    assert (stored.about["left_out"], int(stored.tiles.rows.sum())) == (2, 1)
    with pytest.raises(ConfigError, match="no row of 1 has a position"):
        add(tmp_path, "none", table.slice(1, 1))


def test_an_addition_that_was_killed_half_way_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = sky(500)
    before, _ = add(tmp_path, "galaxies", table)
    with monkeypatch.context() as patched:
        patched.setattr(store, "_commit_table", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            add(tmp_path, "galaxies", table.slice(0, 400))
    there = Stored.open(folder_of(tmp_path, "galaxies"))
    assert there.content_hash == before.content_hash
    catalog = StoredCatalog(folder_of(tmp_path, "galaxies"))
    assert len(catalog.around([0.0], [0.0], 179 * 3600.0)) == 500
    after, new = add(tmp_path, "galaxies", table.slice(0, 400))
    assert (new, after.version) == (True, 1)


def test_what_is_not_there_is_told_with_a_cure(tmp_path: Path) -> None:
    add(tmp_path, "galaxies", sky(50))
    with pytest.raises(LakeError, match="no catalogue 'galaxis'; did you mean 'galaxies'"):
        Stored.open(folder_of(tmp_path, "galaxis"))
    with pytest.raises(LakeError, match="no version 3: it has 0 to 0"):
        Stored.open(folder_of(tmp_path, "galaxies"), 3)
    with pytest.raises(ConfigError, match="a name is a letter"):
        add(tmp_path, "my-galaxies", sky(50))


def test_additions_at_once_are_versions_one_after_the_other(tmp_path: Path) -> None:
    tables = [sky(500).slice(0, 400 + 10 * i) for i in range(6)]
    with ThreadPoolExecutor(6) as threads:
        made = [*threads.map(lambda table: add(tmp_path, "galaxies", table), tables)]
    assert {new for _, new in made} == {True}
    assert sorted(stored.version for stored, _ in made) == [*range(6)]
    for table, (stored, _) in zip(tables, made, strict=True):
        there = Stored.open(folder_of(tmp_path, "galaxies"), stored.version)
        assert there.content_hash == cut(canonical(table)).content_hash
        found = there.rows(np.arange(len(there.tiles.rows)), [])
        assert sorted(found["id"].to_pylist()) == sorted(table["id"].to_pylist())


def test_a_catalogue_that_deltalake_wrote_takes_new_versions(tmp_path: Path) -> None:
    """Those of earlier versions of this package have no times in their commits."""
    table = sky(500)
    new, _ = add(tmp_path / "new", "galaxies", table)
    folder = folder_of(tmp_path / "old", "galaxies")
    write_deltalake(str(folder / "rows"), DeltaTable(str(new.path / "rows")).to_pyarrow_table())
    said = CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(new.about))})
    tiles = DeltaTable(str(new.path / "tiles")).to_pyarrow_table()
    write_deltalake(str(folder / "tiles"), tiles, commit_properties=said)
    assert Stored.open(folder).content_hash == new.content_hash
    assert add(tmp_path / "old", "galaxies", table)[1] is False
    after, _ = add(tmp_path / "old", "galaxies", table.slice(0, 400))
    assert (after.version, len(after.rows(np.arange(len(after.tiles.rows)), []))) == (1, 400)
    before = Stored.open(folder, 0)
    assert len(before.rows(np.arange(len(before.tiles.rows)), [])) == 500
