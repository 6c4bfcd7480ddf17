"""Workers of a cluster have the code of the driver, or are refused with what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import ampel_spark
from ampel_spark.errors import SetupError
from ampel_spark.workers import _code, check_workers, software_here


def test_workers_with_the_driver_s_code_are_taken(spark: SparkSession) -> None:
    assert check_workers(spark) == 1


@pytest.mark.parametrize("name", ["ampel_spark", "python", "numpy"])
def test_a_worker_with_something_else_is_named(name: str, spark: SparkSession) -> None:
    with pytest.raises(SetupError, match=rf"has {name} \S+, and the driver other: set the same"):
        check_workers(spark, software_here() | {name: "other"})


def test_one_byte_of_the_code_counts_and_where_it_lies_does_not(tmp_path: Path) -> None:
    here = Path(ampel_spark.__file__).parent
    there = shutil.copytree(here, tmp_path / "elsewhere" / "ampel_spark")
    assert _code(there) == _code(here)
    other = shutil.copytree(here, tmp_path / "other" / "ampel_spark")
    with (other / "t1" / "links.py").open("a") as stream:
        stream.write(" ")
    assert _code(other) != _code(here)
    less = shutil.copytree(here, tmp_path / "less" / "ampel_spark")
    (less / "journal.py").unlink()
    assert _code(less) != _code(here)
