"""Three kills of a driver: between two commits of a chunk, in T1 and in T2.

`make kill-test` does more.
"""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.kill.driver import drive as drive_here
from tests.kill.harness import (
    BEGINS,
    Moment,
    differences,
    drive,
    lengths_of,
    moments,
    simulated,
)

pytestmark = [pytest.mark.slow]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_lake_whose_drivers_were_killed_equals_an_undisturbed_one(
    spark: SparkSession, tmp_path: Path
) -> None:
    archive = simulated(tmp_path, alerts=300)
    chunk = sum(file.stat().st_size for file in archive.glob("*.tar.gz")) * 2 // 3  # two of them
    lake, undisturbed = tmp_path / "lake", tmp_path / "undisturbed"
    kills = (
        Moment(table="datapoints", version=2),
        Moment(table="states", version=1),
        Moment(table="t2_patient", version=1),
    )
    for moment in kills:
        assert drive(lake, archive, moment, chunk=chunk).code is None
    assert differences(lake, lake) != []  # staging was left, and a chunk or a run half done
    for path in (lake, undisturbed):
        assert drive_here(path, archive, chunk, []) == 0
    assert differences(lake, undisturbed) == []


def test_moments_are_those_of_their_seed_and_reach_every_tier() -> None:
    lengths = dict.fromkeys(BEGINS, 2.0)
    found = moments(3, 24, lengths)
    assert found == moments(3, 24, lengths) != moments(4, 24, lengths)
    assert {m.tier for m in found} == {"ingest", "T0", "T1", "T2"}
    assert all(0 <= m.seconds <= 2 for m in found)


def test_the_length_of_a_tier_is_from_its_first_line_to_that_of_the_next() -> None:
    lines = [(1.0, "started"), (1.5, "ingest: 1/2 files"), (4.0, "run kill-2024 on lake"),
             (4.5, "T0: channel All"), (4.6, "T0: channel Bright"), (6.0, "T1: 5 states"),
             (9.0, "T2: summary: 5 states"), (9.5, "run kill-2024: good")]  # fmt: skip
    assert lengths_of(lines) == {"ingest": 3.0, "T0": 0.5, "T1": 1.5, "T2": 3.0, "T3": 0.5}
