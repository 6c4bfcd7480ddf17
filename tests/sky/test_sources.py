"""Files of catalogues, read into one form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from deltalake import write_deltalake
from pyarrow import csv, parquet

from ampel_spark.errors import ConfigError
from ampel_spark.sky.sources import CatalogSettings, read_source
from ampel_spark.sky.tiles import canonical, cut
from ampel_spark.sky.where import Condition

COLUMNS: dict[str, Any] = {
    "RA": [10.5, 20.25, 359.875],
    "DE": [-1.5, 0.0, 88.125],
    "nr": [7, 5, 6],
    "z": [0.125, 0.25, 0.5],
    "type": ["gal", "qso", "gal"],
}


def written(folder: Path) -> list[Path]:
    """Write one table in every form that is read."""
    table = pa.table(COLUMNS)
    parquet.write_table(table, folder / "c.parquet")
    csv.write_csv(table, folder / "c.csv")
    own = Table(COLUMNS)
    own.write(folder / "c.ecsv", format="ascii.ecsv")
    own.write(folder / "c.fits")
    own.write(folder / "c.vot", format="votable")
    write_deltalake(str(folder / "delta"), table)
    for part in range(3):
        place = folder / "hats" / "dataset" / "Norder=0" / "Dir=0"
        place.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.slice(part, 1), place / f"Npix={part}.parquet")
    (folder / "hats" / "hats.properties").write_text("obs_collection=c\n")
    parquet.write_metadata(table.schema, folder / "hats" / "dataset" / "_common_metadata")
    names = ("c.parquet", "c.csv", "c.ecsv", "c.fits", "c.vot", "delta", "hats")
    return [folder / name for name in names]


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    settings = CatalogSettings(ra="RA", dec="DE", id="nr")
    tables = {path.name: read_source([path], settings) for path in written(tmp_path)}
    assert tables["c.csv"].column_names == ["id", "ra", "dec", "z", "type"]
    hashes = {name: cut(canonical(table)).content_hash for name, table in tables.items()}
    assert len(set(hashes.values())) == 1, hashes


def test_what_is_no_number_is_null_in_all_forms(tmp_path: Path) -> None:
    table = pa.table({"ra": [1.0, 2.0], "dec": [3.0, 4.0], "z": [np.nan, 0.05]})
    parquet.write_table(table, tmp_path / "c.parquet")
    for name, form in (("c.fits", "fits"), ("c.ecsv", "ascii.ecsv"), ("c.vot", "votable")):
        Table(table.to_pydict()).write(tmp_path / name, format=form)
    (tmp_path / "c.csv").write_text("ra,dec,z\n1,3,\n2,4,0.05\n")
    for path in tmp_path.glob("c.*"):
        read = read_source([path], CatalogSettings())
        assert read["z"].to_pylist() == [None, 0.05], path
        for text in ("z is not null", "z != 0", "not (z <= 0)"):
            assert Condition.read(text).mask(read).tolist() == [False, True]


def test_an_index_of_pandas_without_a_name_is_left_out(tmp_path: Path) -> None:
    """One with a name is a column that somebody wanted."""
    frame = pd.DataFrame({"ra": [1.0, 2.0, 3.0], "dec": 0.0, "z": [0.1, 0.2, 0.3]})
    frame[frame.z > 0.15].to_parquet(tmp_path / "cut.parquet")
    path = tmp_path / "cut.parquet"
    assert "__index_level_0__" in parquet.read_schema(path).names
    assert read_source([path], CatalogSettings()).column_names == ["ra", "dec", "z"]
    asked = read_source([path], CatalogSettings(id="__index_level_0__", columns=("z",)))
    assert asked["id"].to_pylist() == [1, 2]
    frame.set_index(pd.Index(["a", "b", "c"], name="galaxy")).to_parquet(path)
    found = read_source([path], CatalogSettings())
    assert found["galaxy"].to_pylist() == ["a", "b", "c"]


def test_units_of_the_position(tmp_path: Path) -> None:
    sky = SkyCoord([10.5, 200.25], [-1.5, 0.0625], unit="deg")
    text = {
        "ra": sky.ra.to_string(u.hour, sep=":", precision=4),
        "dec": [t.replace("d", " ").replace("m", " ").rstrip("s") for t in
                sky.dec.to_string(u.deg, precision=3)],
    }  # fmt: skip
    forms = {
        "deg": {"ra": sky.ra.deg, "dec": sky.dec.deg},
        "rad": {"ra": sky.ra.rad, "dec": sky.dec.rad},
        "hourangle": {"ra": sky.ra.hour, "dec": sky.dec.deg},
        "sexagesimal": text,
    }
    for unit, columns in forms.items():
        path = tmp_path / f"{unit}.parquet"
        parquet.write_table(pa.table({k: list(v) for k, v in columns.items()}), path)
        found = read_source([path], CatalogSettings(unit=unit))  # type: ignore[arg-type]
        np.testing.assert_allclose(found["ra"], sky.ra.deg, atol=1e-7)
        np.testing.assert_allclose(found["dec"], sky.dec.deg, atol=1e-7)


def test_a_small_negative_declination_keeps_its_sign(tmp_path: Path) -> None:
    table = pa.table(
        {"ra": ["00 00 01", "01h02m03.5s", None], "dec": ["-00 00 30", "+10d20m30s", ""]}
    )
    parquet.write_table(table, tmp_path / "c.parquet")
    found = read_source([tmp_path / "c.parquet"], CatalogSettings(unit="sexagesimal"))
    np.testing.assert_allclose(found["dec"], [-30 / 3600, 10 + 20.5 / 60, np.nan])
    np.testing.assert_allclose(found["ra"], [15 / 3600, 15 * (1 + 2 / 60 + 3.5 / 3600), np.nan])


def test_radians_by_mistake_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = pa.table({"ra": rng.uniform(0, 6.2, 500), "dec": rng.uniform(-1.5, 1.5, 500)})
    parquet.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="as radians are: say 'unit: rad'"):
        read_source([tmp_path / "c.parquet"], CatalogSettings())


def test_proper_motions_come_in_one_unit_with_their_epoch(tmp_path: Path) -> None:
    table = pa.table({"ra": [1.0], "dec": [2.0], "pm1": [0.5], "pm2": [-0.25], "ep": [2016.0]})
    parquet.write_table(table, tmp_path / "c.parquet")
    given: dict[str, Any] = {"pmra": "pm1", "pmdec": "pm2", "motion_unit": "arcsec/yr"}
    for epoch in ("ep", 2016.0):
        settings = CatalogSettings(**given, epoch=epoch, columns=())
        found = read_source([tmp_path / "c.parquet"], settings).to_pylist()
        assert found == [{"ra": 1.0, "dec": 2.0, "pmra": 500.0, "pmdec": -250.0, "epoch": 2016.0}]
    with pytest.raises(ConfigError, match="need an epoch"):
        read_source([tmp_path / "c.parquet"], CatalogSettings(**given))


def test_several_files_are_one_catalogue_if_their_columns_agree(tmp_path: Path) -> None:
    paths = written(tmp_path)
    settings = CatalogSettings(ra="RA", dec="DE")
    assert read_source(paths[:2], settings).num_rows == 6
    parquet.write_table(
        pa.table({"RA": [1.0], "DE": [1.0], "z": ["?"]}), tmp_path / "other.parquet"
    )
    with pytest.raises(ConfigError, match="they make no one table"):
        read_source([paths[0], tmp_path / "other.parquet"], settings)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)[0]
    with pytest.raises(ConfigError, match="no column 'tipe'; did you mean 'type'"):
        read_source([path], CatalogSettings(ra="RA", dec="DE", columns=("tipe",)))
    with pytest.raises(ConfigError, match=r"no column 'ra'.*'ra:' and 'dec:' in its settings say"):
        read_source([path], CatalogSettings())
    with pytest.raises(ConfigError, match="cannot be called 'ra'"):
        read_source([path], CatalogSettings(ra="RA", dec="DE", columns={"ra": "z"}))
    big = pa.table({"ra": [1.0], "dec": [2.0], "nr": pa.array([2**63 + 5], pa.uint64())})
    parquet.write_table(big, tmp_path / "big.parquet")
    with pytest.raises(ConfigError, match=r"column 'nr'.*Integer value 9223372036854775813.*text"):
        read_source([tmp_path / "big.parquet"], CatalogSettings(id="nr"))
    exact = pa.array([2**60 + 1, 2**60 + 2], pa.decimal128(20, 0))  # what Spark has for uint64
    spark = pa.table({"ra": [1.0, 2.0], "dec": [2.0, 2.0], "nr": exact})
    parquet.write_table(spark, tmp_path / "spark.parquet")
    kept = read_source([tmp_path / "spark.parquet"], CatalogSettings(id="nr"))
    assert [2**60 + 1, 2**60 + 2] in [column.to_pylist() for column in kept.columns]
    parquet.write_table(pa.table({"ra": ["12 99"], "dec": ["1 2"]}), tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match="'12 99' in row 1 is not sexagesimal"):
        read_source([tmp_path / "s.parquet"], CatalogSettings(unit="sexagesimal"))
    # 25 hours are no right ascension, and 95 degrees no declination
    for ra, dec, said in (
        ("25:00:00", "1 2 3", "ra = '25:00:00'"),
        ("1 2 3", "-95 0 0", "dec = '-95 0 0'"),
    ):
        parquet.write_table(
            pa.table({"ra": ["1 2 3", ra], "dec": ["1 2 3", dec]}), tmp_path / "s.parquet"
        )
        with pytest.raises(ConfigError, match=f"{said} in row 2 is not sexagesimal"):
            read_source([tmp_path / "s.parquet"], CatalogSettings(unit="sexagesimal"))


@pytest.mark.parametrize(
    ("file", "settings", "rows"),
    [
        ("mangrove_galaxies.parquet", "mangrove", 295_341),
        ("gcvs.parquet", "gcvs", 59_099),
        ("lenscat_catalog.csv", "lenscat", 32_838),
        ("3hsp.csv", {"ra": "R.A.", "dec": "Dec", "unit": "sexagesimal", "id": "id"}, 2013),
        (
            "magnetic_cataclysmic_variables.csv",
            {"ra": "RA(J2000)", "dec": "DEC(J2000)", "unit": "sexagesimal"},
            None,
        ),
        ("table-4LAC-DR3-h.fits", {"ra": "RAJ2000", "dec": "DEJ2000"}, 3407),
    ],
)
def test_real_catalogues_are_read(
    shared_data: Path, file: str, settings: Any, rows: int | None
) -> None:
    from ampel_spark.job.configuration.catalogs import load_settings

    how = load_settings(settings) if isinstance(settings, str) else CatalogSettings(**settings)
    table = read_source([shared_data / "catalogs" / file], how)
    assert table.num_rows == (rows or table.num_rows) > 50
    placed = canonical(table)
    assert placed.num_rows > 0.99 * table.num_rows
    assert placed["dec"].to_numpy().min() < -20
