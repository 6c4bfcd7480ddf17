"""The nearest row of a catalogue as a unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from pyarrow import parquet

from ampel_spark.errors import ConfigError, UnitError
from ampel_spark.lightcurve import FORCED, TiedResults
from ampel_spark.sky import tiles
from ampel_spark.sky.store import add
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal, Unit
from ampel_spark.t2.registry import build, describe
from ampel_spark.t2.trace import trace_of
from ampel_spark.t2.units.catalog_match import positions


def curve(ra: float | None, dec: float = 0.0) -> LightCurve:
    return LightCurve.of(jd=[1.0]) if ra is None else LightCurve.of(jd=[1.0], ra=[ra], dec=[dec])


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "RA": [10.0, 10.001, 359.9999],
            "DEC": [0.0, 0.0, 0.0],
            "z": [0.01, None, 0.03],
            "n_spec": [4, 5, None],
            "name": ["NGC 1", "NGC 2", None],
        }
    )
    parquet.write_table(table, tmp_path / "hosts.parquet")
    return tmp_path


def unit_of(hosts: Path, **config: Any) -> Unit:
    given = {"catalog": "hosts.parquet", "ra": "RA", "dec": "DEC", "radius": 5.0} | config
    return build("catalog_match", given, hosts)


def test_the_nearest_row_gives_its_columns(hosts: Path) -> None:
    unit = unit_of(hosts, append=["z", "n_spec"])
    row = unit.process(curve(10.0002))
    assert row["distance"] == pytest.approx(0.72)
    assert {k: v for k, v in row.items() if k != "distance"} == {
        "matched": True, "n_within": 2, "z": 0.01, "n_spec": 4,
    }  # fmt: skip
    assert {c.name: c.type for c in unit.output_columns()} == {
        "matched": "boolean", "distance": "double", "n_within": "int",
        "z": "double", "n_spec": "bigint",
    }  # fmt: skip


def test_a_match_goes_across_right_ascension_zero(hosts: Path) -> None:
    row = unit_of(hosts, append=["z"]).process(curve(0.0001))
    assert (row["matched"], row["z"]) == (True, 0.03)


def test_an_object_that_nothing_is_near_to_has_a_row_that_says_so(hosts: Path) -> None:
    row = unit_of(hosts, append=["z"]).process(curve(11.0))
    assert row == {"matched": False, "distance": None, "n_within": 0, "z": None}


def test_columns_can_be_given_other_names(hosts: Path) -> None:
    unit = unit_of(hosts, append={"host": "name", "host_z": "z"})
    assert unit.process(curve(10.0))["host"] == "NGC 1"
    with pytest.raises(UnitError, match="'name' is a column that every unit's table has"):
        unit_of(hosts, append=["name"])


def test_the_fast_form_says_what_the_plain_form_says(hosts: Path) -> None:
    unit = unit_of(hosts, append={"z": "z", "n_spec": "n_spec", "host": "name"})
    curves = [curve(ra) for ra in (10.0, 10.001, 10.0004, 0.0, 200.0, None)]
    fast = unit.process_batch(LightCurveBatch.of(curves))
    assert fast is not None
    columns = {
        name: values.to_pylist() for name, values in fast.items() if isinstance(values, pa.Array)
    }
    for i, one in enumerate(curves[:-1]):
        row = dict(unit.process(one))
        assert row.pop("distance") == pytest.approx(columns["distance"][i], abs=1e-9)
        assert row == {name: columns[name][i] for name in row}
        assert fast["status"][i] == 0
    with pytest.raises(Refusal) as refused:
        unit.process(curves[-1])
    assert all(values[-1] is None for values in columns.values())
    assert (fast["status"][-1], fast["message"][-1]) == (refused.value.status, str(refused.value))


def test_the_content_of_the_catalogue_is_an_input_and_no_part_of_the_trace(hosts: Path) -> None:
    unit = unit_of(hosts, append=["z"])
    batch = LightCurveBatch.of([curve(10.0), curve(200.0), curve(None)])
    before, read = trace_of(unit, "match").trace_id, unit.inputs(batch)
    assert unit.process(curve(10.0))["z"] == 0.01
    table = parquet.read_table(hosts / "hosts.parquet")
    changed = table.set_column(2, "z", pa.array([0.5, 0.5, 0.5]))
    parquet.write_table(changed, hosts / "hosts.parquet")
    assert trace_of(unit, "match").trace_id == before
    after = unit.inputs(batch)
    assert read is not None
    assert after is not None
    assert (after[0] != read[0], after[2] == read[2]) == (True, True)
    assert unit.process(curve(10.0))["z"] == 0.5
    assert trace_of(unit_of(hosts, radius=6), "match").trace_id != before


def test_wrong_columns_are_told_before_anything_runs(hosts: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'zz'; did you mean 'z'"):
        unit_of(hosts, append=["zz"])
    with pytest.raises(ConfigError, match=r"nowhere\.csv is not there"):
        unit_of(hosts, catalog="nowhere.csv")
    with pytest.raises(ConfigError, match=r"config\.radius = 0: a number greater than 0 is needed"):
        unit_of(hosts, radius=0)


def rows_of(unit: Unit, curves: list[LightCurve]) -> list[dict[str, Any]]:
    """Return the unit's columns of light curves, one dict for each."""
    found = unit.process_batch(LightCurveBatch.of(curves))
    assert found is not None
    columns = {n: v.to_pylist() for n, v in found.items() if isinstance(v, pa.Array)}
    return [{n: v[i] for n, v in columns.items()} for i in range(len(curves))]


def test_a_pre_filter_makes_rows_absent_and_a_post_filter_judges_the_nearest(hosts: Path) -> None:
    # at 10.0002 NGC 1 (z 0.01) is at 0.72 arcsec, NGC 2 (no z, n_spec 5) at 2.88
    at = curve(10.0002)
    plain = unit_of(hosts, append=["n_spec"]).process(at)
    before = unit_of(hosts, append=["n_spec"], pre_filter="n_spec > 4").process(at)
    after = unit_of(hosts, append=["n_spec"], post_filter="n_spec > 4").process(at)
    assert (plain["matched"], plain["n_spec"], plain["n_within"]) == (True, 4, 2)
    assert (before["matched"], before["n_spec"], before["n_within"]) == (True, 5, 1)
    assert before["distance"] == pytest.approx(2.88)
    assert (after["matched"], after["n_spec"], after["distance"]) == (False, None, None)
    both = unit_of(hosts, append=["n_spec"], how="all", post_filter="n_spec > 4").process(at)
    assert (both["matched"], both["n_spec"], both["n_within"]) == (True, [5.0], 2)
    nothing = unit_of(hosts, append=["z"], pre_filter="z > 9").process(at)
    assert nothing == {"matched": False, "distance": None, "n_within": 0, "z": None}


def test_all_rows_the_k_nearest_and_whether_there_is_any(hosts: Path) -> None:
    at = [curve(10.0002), curve(50.0), curve(None)]
    every = rows_of(unit_of(hosts, how="all", append={"host": "name", "z": "z"}), at)
    assert every[0]["host"] == ["NGC 1", "NGC 2"]
    assert every[0]["z"] == [0.01, None]
    assert every[0]["distance"] == pytest.approx([0.72, 2.88])
    assert (every[1]["host"], every[1]["matched"]) == ([], False)
    assert every[2]["host"] is None
    one = rows_of(unit_of(hosts, how="k", k=1, append={"host": "name"}), at)
    assert (one[0]["host"], one[0]["n_within"]) == (["NGC 1"], 2)
    assert rows_of(unit_of(hosts, how="any"), at) == [
        {"matched": True}, {"matched": False}, {"matched": None}
    ]  # fmt: skip
    ring = unit_of(hosts, min_radius=1.0, append={"host": "name"}).process(at[0])
    assert ring["host"] == "NGC 2"


def test_whole_numbers_of_several_rows_stay_whole(tmp_path: Path) -> None:
    rows = {"ra": [10.0, 10.0, 10.0], "dec": [0.0, 0.0001, 0.0002], "star": [True, None, False]}
    ids = [5853498713190525697, None, 5853498713190525699]  # a float would round them
    parquet.write_table(pa.table(rows | {"number": ids}), tmp_path / "stars.parquet")
    for how in ("all", "k"):
        config = {"catalog": "stars.parquet", "radius": 5, "append": ["number", "star"]}
        unit = build("catalog_match", config | {"how": how, "k": 3}, tmp_path)
        row = unit.process(curve(10.0))
        assert (row["number"], row["star"]) == (ids, [1.0, None, 0.0])
        assert {c.type for c in unit.output_columns() if c.name == "number"} == {"array<bigint>"}


def test_several_catalogues_stand_side_by_side_under_their_names(hosts: Path) -> None:
    table = pa.table({"ra": [10.0], "dec": [0.001], "kind": ["star"]})
    parquet.write_table(table, hosts / "stars.parquet")
    unit = build(
        "catalog_match",
        {"catalogs": {
            "hosts": {"catalog": "hosts.parquet", "ra": "RA", "dec": "DEC", "radius": 2,
                      "append": ["z"]},
            "stars": {"catalog": "stars.parquet", "radius": 5, "append": ["kind"]},
        }},
        hosts,
    )  # fmt: skip
    row = unit.process(curve(10.0002))
    assert (row["hosts_matched"], row["hosts_z"], row["stars_kind"]) == (True, 0.01, "star")
    assert {c.name for c in unit.output_columns()} == set(row)
    with pytest.raises(ConfigError, match="give either catalog and radius, or catalogs"):
        build("catalog_match", {}, hosts)
    with pytest.raises(ConfigError, match="catalog and radius go together"):
        build("catalog_match", {"catalog": "hosts.parquet"}, hosts)


def test_the_position_is_the_jobs_choice() -> None:
    wandering = LightCurve.of(
        jd=[2451545.0, 2451546.0, 2451547.0, 2451548.0], ra=[359.9, 0.1, 0.3, 0.5],
        dec=[0.0, 0.0, 0.0, 2.0], magerr=[0.1, 0.1, 0.2, 0.2], kind=[0, 0, 0, 1],
    )  # fmt: skip
    nothing = LightCurve.of(jd=[1.0])
    batch = LightCurveBatch.of([nothing, wandering, nothing])
    expected = {"first": 359.9, "latest": 0.3, "median": 0.1, "mean": 0.1,
                "weighted": (-0.1 * 4 + 0.1 * 4 + 0.3) / 9}  # fmt: skip
    for which, ra in expected.items():
        found = positions(batch, which)
        assert found[0][1] % 360 == pytest.approx(ra % 360, abs=1e-4), which
        assert found[1][1] == pytest.approx(0.0, abs=1e-9)
        assert all(value != value for value in (found[0][0], found[0][2], found[2][0]))
    assert positions(batch, "first")[2][1] == 2000.0
    assert positions(batch, "latest")[2][1] == pytest.approx(2000 + 2 / 365.25)


def test_an_object_of_forced_photometry_alone_is_where_its_points_are(hosts: Path) -> None:
    forced = LightCurve.of(
        jd=[1.0, 2.0, 3.0], ra=[10.0, 10.0001, 10.0002], dec=[0.0, 0.0, 0.0], kind=FORCED,
        flux=[1.0, 2.0, 3.0], fluxerr=1.0,
    )  # fmt: skip
    batch = LightCurveBatch.of([curve(50.0), forced])
    assert positions(batch, "mean")[0] == pytest.approx(batch.positions()[0])
    for which, ra in {"first": 10.0, "latest": 10.0002, "median": 10.0001, "weighted": 10.0001,
                      "mean": 10.0001}.items():  # fmt: skip
        assert positions(batch, which)[0] == pytest.approx([50.0, ra])
        row = unit_of(hosts, position=which, append=["n_spec"]).process(forced)
        assert (row["matched"], row["n_spec"]) == (True, 4)


def test_stars_are_met_where_they_were_when_the_object_was_seen(tmp_path: Path) -> None:
    table = pa.table(
        {"ra": [100.0], "dec": [60.0], "pmra": [0.0], "pmdec": [10_000.0], "epoch": [2000.0]}
    )
    add(tmp_path, "stars", table)
    catalog = {"catalog": tmp_path / "catalogs" / "stars", "version": 0, "radius": 1.0}
    unit = build("catalog_match", catalog, tmp_path)
    ten_years = 2451545.0 + 3652.5
    there, gone = (
        LightCurve.of(jd=[ten_years], ra=[100.0], dec=[dec]) for dec in (60 + 100 / 3600, 60.0)
    )
    assert [row["matched"] for row in rows_of(unit, [there, gone])] == [True, False]


def test_a_new_version_makes_stale_what_it_touches_and_a_lake_may_hold_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CAP", 20)
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 1000), rng.uniform(-60, 60, 1000)
    z = rng.random(1000)
    add(tmp_path, "galaxies", pa.table({"ra": ra, "dec": dec, "z": z}))
    z[:5] += 1
    add(tmp_path, "galaxies", pa.table({"ra": ra, "dec": dec, "z": z}))
    folder = tmp_path / "catalogs" / "galaxies"
    old, new = (
        build("catalog_match", {"catalog": folder, "version": v, "radius": 3, "append": ["z"]},
              tmp_path) for v in (0, 1)
    )  # fmt: skip
    assert trace_of(old, "m").trace_id == trace_of(new, "m").trace_id
    curves = [curve(float(r), float(d)) for r, d in zip(ra, dec, strict=True)]
    batch = LightCurveBatch.of(curves)
    before, after = old.inputs(batch), new.inputs(batch)
    assert before is not None
    assert after is not None
    stale = np.array(before) != np.array(after)
    assert stale[:5].all()
    assert stale.sum() < 5 * 25
    z_old, z_new = ([row["z"] for row in rows_of(unit, curves)] for unit in (old, new))
    changed = np.array(z_old) != np.array(z_new)
    assert changed.sum() == 5
    assert not (changed & ~stale).any()


def sized(ra: float, dec: float, result: dict[str, Any] | None) -> LightCurve:
    """Return an object to which a tied unit says what it is to be matched with."""
    results = {} if result is None else {"size": result}
    return LightCurve.of(jd=[2451545.0], ra=[ra], dec=[dec], results=results)


def own_radius(folder: Path, name: str, how: str = "all", **radius: Any) -> Unit:
    tie = {"unit": "size", "column": "r", **radius}
    config = {"catalog": folder / name, "radius": tie, "how": how, "append": ["n"]}
    return build("catalog_match", config, folder)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[LightCurve]]:
    """Return a folder with galaxies, and objects among them with numbers from 0.1 to 40."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("field")
    ra, dec = rng.uniform(-0.05, 0.05, 400) % 360.0, rng.uniform(59.95, 60.0, 400)
    table = pa.table({"ra": ra, "dec": dec, "n": np.arange(400)})
    parquet.write_table(table, folder / "galaxies.parquet")
    number = 10 ** rng.uniform(-1, 1.6, 120)
    at = rng.uniform(-0.05, 0.05, 120) % 360.0, rng.uniform(59.95, 60.0, 120)
    curves = [sized(*here, {"r": r}) for *here, r in zip(*at, number, strict=True)]
    return folder, curves


def test_each_object_is_matched_within_the_radius_that_a_tied_unit_gives_it(
    field: tuple[Path, list[LightCurve]],
) -> None:
    folder, curves = field
    table = parquet.read_table(folder / "galaxies.parquet")
    galaxies = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    objects = SkyCoord([c.ra[0] for c in curves], [c.dec[0] for c in curves], unit="deg")
    apart = objects[:, None].separation(galaxies[None, :]).arcsec
    number = np.array([c.results["size"]["r"] for c in curves])
    radius = np.minimum(2.0 * number, 50.0)
    assert 10 < (2.0 * number > 50.0).sum() < 60
    rows = rows_of(own_radius(folder, "galaxies.parquet", scale=2.0, most=50.0), curves)
    for distance, r, row in zip(apart, radius, rows, strict=True):
        order = np.argsort(distance)[: (distance <= r).sum()]
        assert row["n"] == order.tolist()
        assert row["distance"] == pytest.approx(distance[order], abs=1e-6)
        assert (row["matched"], row["n_within"]) == (len(order) > 0, len(order))
    assert 20 < sum(row["matched"] for row in rows) < 110
    nearest = own_radius(folder, "galaxies.parquet", "nearest", scale=2.0, most=50.0)
    at_once = rows_of(nearest, curves)
    assert [row["n"] for row in at_once] == [(row["n"] or [None])[0] for row in rows]
    # one by one, and from a catalogue of a lake
    assert at_once == [nearest.process(curve) for curve in curves]
    stored, _ = add(folder, "galaxies", table)
    of_lake = own_radius(stored.path.parent, "galaxies", "nearest", scale=2.0, most=50.0)
    assert rows_of(of_lake, curves) == at_once


def test_radii_that_are_all_the_same_are_one_radius(
    field: tuple[Path, list[LightCurve]],
) -> None:
    folder, curves = field
    same = [sized(c.ra[0], c.dec[0], {"r": 3.0}) for c in curves]
    config = {"catalog": folder / "galaxies.parquet", "how": "all", "append": ["n"]}
    for given, number in (({"scale": 5.0}, 15.0), ({"scale": 50.0, "most": 15.0}, 15.0)):
        own = own_radius(folder, "galaxies.parquet", **given)
        one = build("catalog_match", config | {"radius": number}, folder)
        assert rows_of(own, same) == rows_of(one, same)
        # what is read of the catalogue is told for the largest radius that an object can have
        most = build("catalog_match", config | {"radius": given.get("most", 60.0)}, folder)
        batch = LightCurveBatch.of(same)
        assert own.inputs(batch) == most.inputs(batch)
    assert trace_of(own, "m").trace_id != trace_of(one, "m").trace_id


def test_an_object_without_a_radius_is_refused(field: tuple[Path, list[LightCurve]]) -> None:
    folder, _ = field
    numbers = [None, np.nan, np.inf, -np.inf, 0.0, -1.0]
    curves = [sized(0.0, 59.98, {"r": r}) for r in numbers]
    curves += [sized(0.0, 59.98, None), sized(0.0, 59.98, {"r": 60.0})]
    nowhere = LightCurve.of(jd=[1.0], results={"size": {"r": 5.0}})
    curves.append(nowhere)
    unit = own_radius(folder, "galaxies.parquet")
    assert (unit.needs(), unit.tied_columns()) == (("size",), {"size": ["r"]})
    batch = LightCurveBatch.of(curves)
    found = unit.process_batch(batch)
    assert found is not None
    none = "no radius in size.r"
    assert found["status"].tolist() == [-2008] * 6 + [-2006, 0, -2008]
    said = [none] * 6 + ["no result of size", None, "no detection has a position"]
    assert found["message"] == said
    rows = rows_of(unit, curves)
    assert rows[7]["matched"] is True
    for i in (*range(7), 8):
        assert set(rows[i].values()) == {None}
        with pytest.raises(Refusal, match=said[i]) as refused:
            unit.process(curves[i])
        assert refused.value.status == found["status"][i]
    # the same as Arrow holds the results
    tied = pa.array(batch.results["size"], pa.struct([("status", pa.int32()), ("r", pa.float64())]))
    arrow = LightCurveBatch(
        batch.state_id, batch.stock, batch.name, batch.offsets, batch.points,
        {"size": TiedResults(tied)},
    )  # fmt: skip
    again = unit.process_batch(arrow)
    assert again is not None
    assert (again["status"].tolist(), again["message"]) == (found["status"].tolist(), said)
    assert all(again[n].equals(found[n]) for n in ("matched", "n_within", "distance", "n"))


def test_of_several_catalogues_some_may_have_radii_of_the_objects_own(hosts: Path) -> None:
    host = {"catalog": "hosts.parquet", "ra": "RA", "dec": "DEC"}
    tie = {"unit": "size", "column": "a"}
    unit = build(
        "catalog_match",
        {"catalogs": {
            "fixed": host | {"radius": 1.0},
            "a": host | {"radius": tie},
            "b": host | {"radius": tie | {"column": "b", "scale": 0.5}},
        }},
        hosts,
    )  # fmt: skip
    assert (unit.needs(), unit.tied_columns()) == (("size",), {"size": ["a", "b"]})
    # at 10.0002 there are rows at 0.72 and 2.88 arcsec
    sizes = [{"a": 0.5, "b": 10.0}, {"a": 3.0, "b": 1.0}, {"a": 3.0, "b": None}]
    curves = [sized(10.0002, 0.0, size) for size in sizes]
    rows = rows_of(unit, curves)
    counts = [[row[f"{name}_n_within"] for name in ("fixed", "a", "b")] for row in rows]
    assert counts == [[1, 0, 2], [1, 2, 0], [None, None, None]]
    with pytest.raises(Refusal, match=r"no radius in size\.b"):
        unit.process(curves[2])


def test_a_wrong_radius_is_told_in_its_own_form(hosts: Path) -> None:
    tie = {"unit": "size", "column": "r"}
    for radius, said in (
        ({"unit": "size"}, r"config\.radius\.column is required"),
        (tie | {"mosst": 3}, r"config\.radius\.mosst = 3: no parameter 'mosst'; .* 'most'"),
        (tie | {"most": 0}, r"config\.radius\.most = 0: a number greater than 0 is needed"),
        (tie | {"scale": -1}, r"config\.radius\.scale = -1: a number greater than 0 is needed"),
        ("wide", r"config\.radius = 'wide': a number is needed"),
    ):
        with pytest.raises(ConfigError, match=said) as told:
            unit_of(hosts, radius=radius)
        assert "\n" not in str(told.value)
    kinds = {p.name: p.type for p in describe(type(unit_of(hosts))).parameters}
    assert (kinds["radius"], kinds["radius.most"]) == ("float | Radius | None", "float")
