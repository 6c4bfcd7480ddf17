"""Tables in files become columns that say no more and no less than the files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table

from ampel_spark.dialects import DialectError
from ampel_spark.tabular import format_of, read_file


def test_ids_of_fits_are_exact_and_arrays_are_lists(tmp_path: Path) -> None:
    table = Table({
        "nr": np.array([2**64 - 1, 2**53 + 1], np.uint64),
        "pair": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "wave": np.array([1 + 2j, 0]),
        "name": ["a", "b "],
        "good": [True, False],
    })  # fmt: skip
    table.write(tmp_path / "a.fits")
    read = read_file(tmp_path / "a.fits", "fits").table.to_pydict()
    assert read["nr"] == [2**64 - 1, 2**53 + 1]
    assert read["pair"] == [[1.0, 2.0], [3.0, 4.0]]
    assert read["wave"] == ["(1+2j)", "0j"]
    assert read["good"] == [True, False]
    two = read_file(tmp_path / "a.fits", "fits", columns=("good", "nr")).table
    assert two.column_names == ["nr", "good"]
    with pytest.raises(DialectError, match=r"no column 'names'; did you mean 'name'\?"):
        read_file(tmp_path / "a.fits", "fits", columns=("names",))


def test_gaps_leave_whole_numbers_whole(tmp_path: Path) -> None:
    gaps = MaskedColumn([2**53 + 1, 0, 7], mask=[False, True, False])
    for name in ("a.fits", "a.vot", "a.ecsv", "a.tbl"):
        path = tmp_path / name
        kind = format_of(path)
        assert kind is not None
        form = {"ecsv": "ascii.ecsv", "ipac": "ascii.ipac"}.get(kind, kind)
        Table({"nr": gaps, "z": [0.5, np.nan, 1.0]}).write(path, format=form)
        table = read_file(path, kind).table
        assert pa.types.is_integer(table["nr"].type)
        assert table["nr"].to_pylist() == [2**53 + 1, None, 7], name


def test_a_compressed_light_curve_of_snfit_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lc.list.gz"
    path.write_bytes(gzip.compress(b"@SN a\n#Date :\n#Flux :\n#end :\n5 1.5 7\n"))
    assert format_of(path) == "snfit"
    with pytest.raises(DialectError, match=r"3 values for 2 columns \(Date, Flux\)") as caught:
        read_file(path, "snfit")
    assert caught.value.line == 5


def test_what_a_library_makes_of_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    for kind in ("parquet", "fits", "votable", "ipac"):
        (tmp_path / "a").write_bytes(b"damaged" * 99)
        with pytest.raises(DialectError):
            read_file(tmp_path / "a", kind)
    assert format_of(tmp_path / "a") is None
