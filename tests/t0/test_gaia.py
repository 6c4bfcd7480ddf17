"""The veto by Gaia stars."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from pyspark.sql import SparkSession

from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.catalogs import load_settings, star_files
from ampel_spark.job.configuration.model import CatalogSource
from ampel_spark.sky.sources import read_source
from ampel_spark.sky.store import add
from ampel_spark.t0 import ChannelFilter, DecentFilter, StarCatalog, make_filter
from ampel_spark.t0.explain import explain
from ampel_spark.t0.gaia import STAR_COLUMNS, GaiaRule, vetoes
from ampel_spark.t0.judge import judge
from tests.t0.packets import HU_RAPID, alert_row, alerts, by_alert, disagreements, packet
from tests.t0.twin import judge_packet

# A star that vetoes: it moves, and nothing is wrong with it.
STAR: dict[str, float | None] = {
    "ra": 190.0, "dec": 30.0, "Mag_G": 17.0, "PMRA": 10.0, "ErrPMRA": 0.1, "PMDec": 0.0,
    "ErrPMDec": 0.1, "Plx": 0.0, "ErrPlx": 0.1, "ExcessNoiseSig": 0.5,
}  # fmt: skip


def write(path: Path, stars: list[dict[str, Any]]) -> StarCatalog:
    """Write a catalogue and open it."""
    columns = {c: pa.array([s[c] for s in stars], pa.float64()) for c in STAR_COLUMNS}
    pq.write_table(pa.table(columns), path)
    return StarCatalog.open("stars", path)


def rapid(**changes: Any) -> DecentFilter:
    made = make_filter("DecentFilter", HU_RAPID | changes)
    assert isinstance(made, DecentFilter)
    return made


def allowed(mag: float) -> float:
    return 1.8 + 0.6 * math.exp((20 - mag) / 2.05)


def offset(arcsec: float) -> tuple[float, float]:
    """A position so far north of `STAR`."""
    return 190.0, 30.0 + arcsec / 3600


@pytest.mark.parametrize(
    ("star", "parameters", "arcsec", "vetoed"),
    [
        ({}, {}, 0.0, True),
        ({}, {}, allowed(17) - 1e-6, True),
        ({}, {}, allowed(17) + 1e-6, False),
        ({"Mag_G": 10.0}, {}, 20 - 1e-6, True),
        ({"Mag_G": 10.0}, {}, 20 + 1e-6, False),
        ({"Mag_G": 10.0}, {"gaia_rs": 40}, 30, True),
        ({"Mag_G": 20.0}, {}, 1.0, True),
        ({"Mag_G": 20.01}, {}, 1.0, False),
        ({"Mag_G": 9.0}, {}, 1.0, True),
        ({"Mag_G": 8.99}, {}, 1.0, False),
        ({"Mag_G": None}, {}, 1.0, False),
        ({"ExcessNoiseSig": 998.0}, {}, 1.0, True),
        ({"ExcessNoiseSig": 999.0}, {}, 1.0, False),
        ({"ExcessNoiseSig": None}, {}, 1.0, False),
        ({"PMRA": 0.375, "ErrPMRA": 0.125}, {}, 1.0, False),
        ({"PMRA": -0.376, "ErrPMRA": 0.125}, {}, 1.0, True),
        ({"PMRA": 0.0, "PMDec": -5.0}, {}, 1.0, True),
        ({"PMRA": 0.0, "Plx": 5.0}, {}, 1.0, True),
        ({"PMRA": 0.0, "Plx": 5.0}, {"gaia_plx_signif": 50}, 1.0, False),
        ({"PMRA": None, "Plx": None}, {}, 1.0, False),
        ({"ErrPMRA": None}, {}, 1.0, False),
        ({"ErrPMRA": 0.0}, {}, 1.0, True),
        ({"PMRA": 0.0, "ErrPMRA": 0.0}, {}, 1.0, False),
    ],
)
def test_the_rule(
    tmp_path: Path, star: dict[str, Any], parameters: dict[str, Any], arcsec: float, vetoed: bool
) -> None:
    stars = [STAR | star]
    catalog = write(tmp_path / "stars.parquet", stars)
    ra, dec = offset(arcsec)
    f = rapid(**parameters)
    distance, limit = vetoes(catalog, GaiaRule.of(f), np.array([ra]), np.array([dec]))
    assert np.isfinite(distance[0]) == vetoed
    twin = judge_packet(packet(1, ra=ra, dec=dec), f, stars=stars)
    assert twin is not None
    assert (twin.cut == "gaia_star") == vetoed
    if vetoed:
        assert distance[0] == pytest.approx(arcsec, abs=1e-8)
        assert limit[0] == pytest.approx(allowed(stars[0]["Mag_G"]), rel=1e-12)


def test_distances_are_those_of_astropy_everywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ra = np.concatenate([rng.uniform(0, 360, 200), [0.0, 359.9999, 10.0, 200.0]])
    dec = np.concatenate(
        [np.degrees(np.arcsin(rng.uniform(-1, 1, 200))), [0.0, 10.0, 89.9999, -90]]
    )
    place = SkyCoord(ra, dec, unit="deg")
    near = place.directional_offset_by(
        rng.uniform(0, 360, len(ra)) * u.deg, rng.uniform(0.01, 4, len(ra)) * u.arcsec
    )
    stars = [STAR | {"ra": a, "dec": d} for a, d in zip(near.ra.deg, near.dec.deg, strict=True)]
    catalog = write(tmp_path / "stars.parquet", stars)
    distance, _ = vetoes(catalog, GaiaRule.of(rapid()), ra, dec)
    np.testing.assert_allclose(distance, place.separation(near).arcsec, rtol=0, atol=1e-7)


def test_the_nearest_star_that_vetoes_is_recorded(tmp_path: Path) -> None:
    still = STAR | {"PMRA": 0.0, "dec": 30.0 + 0.5 / 3600}
    stars = [STAR | {"dec": 30.0 + 2 / 3600}, still, STAR | {"dec": 30.0 - 1 / 3600, "Mag_G": 18.0}]
    catalog = write(tmp_path / "stars.parquet", stars)
    distance, limit = vetoes(catalog, GaiaRule.of(rapid()), np.array([190.0]), np.array([30.0]))
    assert distance[0] == pytest.approx(1.0, abs=1e-8)
    assert limit[0] == pytest.approx(allowed(18.0))


def test_positions_that_are_not_asked_about_have_no_star(tmp_path: Path) -> None:
    catalog = write(tmp_path / "stars.parquet", [STAR])
    ra, dec = np.array([np.nan, 190.0, 10.0]), np.array([30.0, np.nan, -30.0])
    distance, limit = vetoes(catalog, GaiaRule.of(rapid()), ra, dec)
    assert np.isnan(distance).all()
    assert np.isnan(limit).all()


def test_an_empty_catalogue_vetoes_nothing(tmp_path: Path) -> None:
    catalog = write(tmp_path / "stars.parquet", [])
    distance, _ = vetoes(catalog, GaiaRule.of(rapid()), np.array([190.0]), np.array([30.0]))
    assert np.isnan(distance[0])


@pytest.mark.spark
def test_the_engine_says_what_the_twin_says_in_a_crowded_field(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    stars = [
        {
            "ra": 190 + rng.uniform(0, 0.05), "dec": 30 + rng.uniform(0, 0.05),
            "Mag_G": rng.uniform(8, 21), "PMRA": rng.normal(0, 1), "ErrPMRA": rng.uniform(0.1, 1),
            "PMDec": rng.normal(0, 1), "ErrPMDec": rng.uniform(0.1, 1), "Plx": rng.normal(0, 1),
            "ErrPlx": rng.uniform(0.1, 1), "ExcessNoiseSig": rng.choice([0.0, 5.0, 1500.0]),
        }
        for _ in range(150)
    ]  # fmt: skip
    packets = [
        packet(
            i,
            ra=190 + rng.uniform(0, 0.05),
            dec=30 + rng.uniform(0, 0.05),
            rb=float(rng.choice([0.1, 0.9, 0.9])),
        )
        for i in range(1, 401)
    ]
    catalog = write(tmp_path / "stars.parquet", stars)
    loose = rapid(gaia_excessnoise_sig_max=2000, gaia_rs=60, gaia_pm_signif=1)
    selections = [
        ChannelFilter("A", rapid(), gaia=catalog),
        ChannelFilter("B", loose, gaia=catalog, on_stock_match="overrule"),
        ChannelFilter("C", rapid()),
    ]
    found = by_alert(judge(alerts(spark, packets).repartition(3), selections))
    for channel, f in (("A", rapid()),):
        verdicts = {p["candidate"]["candid"]: judge_packet(p, f, stars=stars) for p in packets}
        assert disagreements(found, channel, verdicts) == []
        cuts = [v.cut for v in verdicts.values() if v is not None]
        assert min(cuts.count(c) for c in ("gaia_star", "min_rb", None)) > 20
    for p in packets:
        i = p["candidate"]["candid"]
        verdict = judge_packet(p, loose, stars=stars)
        assert verdict is not None
        assert found["B", i].cut == verdict.cut
        assert found["C", i].cut in (None, "min_rb")


def test_explain_shows_the_star(tmp_path: Path) -> None:
    catalog = write(tmp_path / "stars.parquet", [STAR])
    ra, dec = offset(1.5)
    rows = [alert_row(packet(1, ra=ra, dec=dec, rb=0.1)), alert_row(packet(2, ra=10.0, dec=0.0))]
    judged = ChannelFilter("A", rapid(), gaia=catalog)
    star = {
        row["alert_id"]: result
        for row in rows
        for result in explain(row, judged)
        if result.cut == "gaia_star"
    }
    assert (star[1].passed, star[2].passed, star[2].value) == (False, True, None)
    assert star[1].value == pytest.approx(1.5, abs=1e-8)
    assert star[1].threshold == pytest.approx(allowed(17.0))


def test_the_hash_is_over_the_stars_not_over_the_file(tmp_path: Path) -> None:
    stars = [STAR | {"ra": 190.0 + i, "Plx": None if i % 2 else 1.0} for i in range(10)]
    one = write(tmp_path / "one.parquet", stars)
    (tmp_path / "two").mkdir()
    write(tmp_path / "two" / "a.parquet", stars[:3])
    write(tmp_path / "two" / "b.parquet", stars[:2:-1])
    two = StarCatalog.open("stars", tmp_path / "two")
    assert one.content_hash == two.content_hash
    changed = [*stars[:-1], stars[-1] | {"Mag_G": 17.1}]
    assert write(tmp_path / "three.parquet", changed).content_hash != one.content_hash


def test_a_catalogue_of_the_lake_vetoes_as_the_file_does_that_it_was_made_of(
    tmp_path: Path,
) -> None:
    stars = [dict(STAR, ra=190.0 + i / 100, Mag_G=12.0 + i) for i in range(5)]
    file = write(tmp_path / "stars.parquet", stars)
    # as Gaia's archive names them
    settings = load_settings("gaia")
    names = settings.kept(())
    table = pq.read_table(tmp_path / "stars.parquet")
    table = table.rename_columns([names.get(c, c) for c in table.column_names])
    pq.write_table(table.append_column("source_id", pa.array(range(5))), tmp_path / "gaia.parquet")
    read = read_source([tmp_path / "gaia.parquet"], settings)
    add(tmp_path, "gaia", read, settings)
    stored, _ = add(tmp_path, "gaia", read.slice(0, 1), settings)
    for version, same in ((0, True), (1, False)):
        entry = CatalogSource(
            "gaia", stored.path, None, False, "ra", "dec", (), "gaia", version, None
        )
        pinned = StarCatalog.open("gaia", star_files(entry))
        assert (pinned.content_hash == file.content_hash) is same


def test_a_catalogue_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    catalog = write(tmp_path / "stars.parquet", [STAR])
    write(tmp_path / "stars.parquet", [STAR | {"Mag_G": 12.0}])
    with pytest.raises(ConfigError, match="changed after the plan"):
        vetoes(catalog, GaiaRule.of(rapid(gaia_rs=7)), np.array([1.0]), np.array([1.0]))


def test_what_is_no_catalogue_of_stars_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ra": [1.0], "dec": [1.0], "mag_g": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="no column 'Mag_G'; did you mean 'mag_g'"):
        StarCatalog.open("stars", tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="no Parquet file"):
        StarCatalog.open("stars", tmp_path / "nowhere")
    (tmp_path / "b.parquet").write_text("x")
    with pytest.raises(ConfigError, match="cannot read"):
        StarCatalog.open("stars", tmp_path / "b.parquet")
    (tmp_path / "delta" / "_delta_log").mkdir(parents=True)
    with pytest.raises(ConfigError, match="Delta table"):
        StarCatalog.open("stars", tmp_path / "delta")
    with pytest.raises(ConfigError, match="must be degrees"):
        write(tmp_path / "c.parquet", [STAR | {"dec": 100.0}])
