"""Catalogues as archives hand them out: compressed, with words for nothing, with large ids."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.errors import ConfigError
from ampel_spark.sky.sources import CatalogSettings, read_source
from ampel_spark.sky.tiles import canonical, cut

CHANGES = int(os.environ.get("AMPEL_SPARK_FUZZ", "2000"))

GAIA = (
    "source_id,ra,dec,g,pm\n4295806720000000001,44.99615,0.00561,17.64,11.94\n"
    "3436112908800000003,45.00432,0.02104,20.83,null\n"
)
HEAD = (
    "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: source_id, datatype: int64}\n"
    "# - {name: ra, datatype: float64}\n# - {name: dec, datatype: float64}\n"
    "# - {name: g, datatype: float32}\n# - {name: pm, datatype: float64}\n"
)


def test_bulk_files_of_gaia_say_the_same_in_all_forms(tmp_path: Path) -> None:
    forms = {"a.csv.gz": gzip.compress((HEAD + GAIA).encode()), "a.csv": (HEAD + GAIA).encode(),
             "a.ecsv": (HEAD + GAIA).encode(), "A.CSV": GAIA.encode()}  # fmt: skip
    hashes = set()
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        read = read_source([tmp_path / name], CatalogSettings(id="source_id"))
        assert read["id"].to_pylist() == [4295806720000000001, 3436112908800000003]
        assert read["pm"].to_pylist() == [11.94, None]
        hashes.add(cut(canonical(read)).content_hash)
    assert len(hashes) == 1


def test_a_dash_among_numbers_is_null(tmp_path: Path) -> None:
    (tmp_path / "bts.csv").write_text("ZTFID,RA,Dec,z\na,00:00:00.05,+12:30:00,0.031\n"
                                      "b,23:59:59.95,+12:30:00.4,-\n")  # fmt: skip
    settings = CatalogSettings(ra="RA", dec="Dec", unit="sexagesimal", id="ZTFID")
    assert read_source([tmp_path / "bts.csv"], settings)["z"].to_pylist() == [0.031, None]
    (tmp_path / "tns.csv").write_text('"2031-02-03 00:00:00 - 23:59:59"\n"objid","ra","dec","z"\n'
                                      '"170001","0.0002","12.5",""\n')  # fmt: skip
    found = read_source([tmp_path / "tns.csv"], CatalogSettings(id="objid")).to_pylist()
    assert found == [{"id": 170001, "ra": 0.0002, "dec": 12.5, "z": None}]


def test_ids_are_exact_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("nr,ra,dec\n9947579231887392768,10,5\n9947579231887392769,11,5\n")
    for settings, name in ((CatalogSettings(), "nr"), (CatalogSettings(id="nr"), "id")):
        assert read_source([path], settings)[name].to_pylist() == [
            "9947579231887392768", "9947579231887392769"
        ]  # fmt: skip
    path.write_text("nr,ra,dec\n1.23768011741705e+18,10,5\n1.23768011741705e+18,11,5\n")
    with pytest.raises(ConfigError, match=r"id 'nr' is double.*1\.23\S+ lost digits by that"):
        read_source([path], CatalogSettings(id="nr"))
    path.write_text("ra,dec,z,z\n1,2,3,4\n")
    with pytest.raises(ConfigError, match="two columns are called 'z'"):
        read_source([path], CatalogSettings())


def test_an_index_of_hipscat_is_no_column_and_a_column_id_names_rows(tmp_path: Path) -> None:
    table = {"_hipscat_index": pa.array([2**63 + 5, 2**63 + 6], pa.uint64()), "id": [1, 2],
             "ra": [300.0, 300.1], "dec": [-40.0, -40.1]}  # fmt: skip
    parquet.write_table(pa.table(table), tmp_path / "c.parquet")
    found = read_source([tmp_path / "c.parquet"], CatalogSettings())
    assert (found.column_names, found["id"].to_pylist()) == (["id", "ra", "dec"], [1, 2])


WORDS = ["", "-", "--", "null", "nan", "inf", "abc", "1e400", "-999", "1,5", "0x10", "é", "9" * 25,
         "1.5e18", "9007199254740993.0", "True", "9223372036854775808", "725", "-95", "x" * 3000,
         " 1 ", "12:30:00", "#", "'", "\\", "+5"]  # fmt: skip


def test_an_odd_value_costs_its_row_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """A column with a word in it is text; what it says of other rows stays the same."""
    rng = random.Random("catalogues")
    columns = ["nr", "ra", "dec", "z", "name", "pm1", "pm2", "ep"]
    settings = CatalogSettings(id="nr", pmra="pm1", pmdec="pm2", epoch="ep")
    rows = [[str(2**60 + i), str(10.5 + i), str(-20.5), str(i / 4), f"g{i}", "1.5", "-2.5",
             "2016.0"] for i in range(100)]  # fmt: skip
    path = tmp_path / "c.csv"

    def read(changed: list[list[str]]) -> Any:
        path.write_text("\n".join(",".join(row) for row in [columns, *changed]) + "\n")
        return read_source([path], settings)

    before = read(rows).to_pylist()
    refused = list[tuple[str, str]]()
    for _ in range(CHANGES):
        changed = [list(row) for row in rows]
        place, column = rng.randrange(100), rng.randrange(len(columns))
        word = rng.choice(WORDS)
        changed[place][column] = f'"{word}"' if "," in word else word
        try:
            after = read(changed).to_pylist()
        except ConfigError as error:
            refused.append((columns[column], str(error)))
            continue
        assert len(after) == 100
        for i, (one, two) in enumerate(zip(before, after, strict=True)):
            for key, value in one.items() if i != place else ():
                same = two[key] == value or (
                    isinstance(two[key], str) and type(value)(two[key]) == value
                )
                assert same, (key, word, value, two[key])
    print(CHANGES, "changes,", len(refused), "refused")
    # an id that is none
    assert all(column == "nr" and "'nr'" in error for column, error in refused)
    assert len(refused) < 0.1 * CHANGES
    assert np.isfinite(before[0]["ra"])
