"""Tables in files: every format gives the same columns, and what is damaged is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from ampel_spark.archive.reading.tables import FORMATS, read_table
from ampel_spark.errors import ArchiveError


@pytest.fixture
def table() -> Table:
    """Names that look like numbers, a gap, whole numbers, and a header."""
    made = Table(
        {
            "name": ["007", "1e5", "SN 2011fe"],
            "flux": MaskedColumn([1.5, 0.0, -2.25], mask=[False, True, False]),
            "flag": [0, 2, 2050],
        }
    )
    made.meta["SURVEY"] = "mine"
    return made


WRITERS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "votable": "votable"}


def _written(table: Table, kind: str, folder: Path) -> Path:
    path = folder / f"table{FORMATS[kind][0]}"
    if kind == "parquet":
        table.to_pandas().to_parquet(path)
    elif kind == "ascii":
        path.write_text('name flux flag\n007 1.5 0\n1e5 nan 2\n"SN 2011fe" -2.25 2050\n')
    else:
        table.write(path, format=WRITERS[kind])
    return path


@pytest.mark.parametrize("kind", ["csv", "ecsv", "parquet", "fits", "votable", "ascii"])
def test_every_format_gives_the_same_columns(kind: str, table: Table, tmp_path: Path) -> None:
    read = read_table(_written(table, kind, tmp_path), text=("name",))
    assert read.texts("name").tolist() == ["007", "1e5", "SN 2011fe"]
    assert np.array_equal(read.numbers("flux"), [1.5, np.nan, -2.25], equal_nan=True)
    assert read.numbers("flag").tolist() == [0, 2, 2050]
    assert len(read) == 3
    if kind in ("ecsv", "fits"):
        assert read.header("SURVEY") == "mine"


@pytest.mark.parametrize("kind", ["csv", "ecsv", "parquet", "votable"])
def test_a_row_without_a_name_leaves_the_other_names_alone(kind: str, tmp_path: Path) -> None:
    ids = MaskedColumn([1237648720693755919, 1002, 3], mask=[False, False, True])
    table = Table({"name": ids, "flux": [1.0, 2.0, 3.0]})
    path = tmp_path / f"table{FORMATS[kind][0]}"
    if kind == "parquet":
        parquet.write_table(pa.table({"name": ids.tolist(), "flux": [1.0, 2.0, 3.0]}), path)
    else:
        table.write(path, format=WRITERS[kind])
    read = read_table(path, text=("name",))
    assert read.texts("name").tolist() == ["1237648720693755919", "1002", ""]


def test_a_fits_file_s_own_value_for_nothing_is_no_number(tmp_path: Path) -> None:
    columns = [
        fits.Column(name="name", format="K", array=np.array([2**53 + 1, -99, 7]), null=-99),
        fits.Column(name="flux", format="J", array=np.array([5, -99, 6]), null=-99),
        fits.Column(name="flag", format="J", array=np.array([5, -99, 6])),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "table.fits")
    read = read_table(tmp_path / "table.fits", text=("name",))
    assert read.texts("name").tolist() == [str(2**53 + 1), "", "7"]
    assert np.array_equal(read.numbers("flux"), [5, np.nan, 6], equal_nan=True)
    assert read.numbers("flag").tolist() == [5, -99, 6]


def test_snfit_has_a_header_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "lc-a.list"
    path.write_text("@SN 007\n@DayMax 53693.9  1\n#Date :\n#Flux: of the SN\n#end :\n5 1.5\n6 2\n")
    read = read_table(path)
    assert read.numbers("Flux").tolist() == [1.5, 2.0]
    assert (read.header("SN"), read.header("DayMax")) == ("007", "53693.9")
    path.write_text("#Date :\n#Flux :\n#end :\n5 1.5 7\n")
    with pytest.raises(ArchiveError, match=r"lc-a.list:4: 3 values for 2 columns \(Date, Flux\)"):
        read_table(path)


def test_what_is_absent_is_told_with_the_nearest_name(table: Table, tmp_path: Path) -> None:
    read = read_table(_written(table, "ecsv", tmp_path))
    with pytest.raises(ArchiveError, match=r"no column 'flx'; did you mean 'flux'\?"):
        read.numbers("flx")
    with pytest.raises(ArchiveError, match="column 'name' is no number"):
        read.numbers("name")
    with pytest.raises(ArchiveError, match=r"no 'SURVEYS' in its header; did you mean 'SURVEY'\?"):
        read.header("SURVEYS")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.fits", "a.vot", "a.ecsv"])
def test_a_damaged_file_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"# %ECSV 1.0\n\x00\xff\xfe broken")
    with pytest.raises(ArchiveError, match=f"{name}: cannot be read as "):
        read_table(path)
    with pytest.raises(ArchiveError, match="no table format ends so"):
        read_table(tmp_path / "a.doc")
