"""An odd word in a cell of a service's table costs its row, or the file with a sentence; no other.

`make fuzz CHANGES=50000` makes that many changes in place of 100 a service.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.job.configuration.load import load_survey
from tests.archive.reading.test_photometry_fuzz import WORDS

CHANGES = max(100, int(os.environ.get("FUZZ_CHANGES", "0")) // 6)

#: Settings, and a file of a case.
SERVICES = [
    ("ztf_forced", "07-ztf-forced-service/forcedphotometry_req00099999_lc.txt"),
    ("atlas", "08-atlas-forced/job1234567.txt"),
    ("fink", "09-fink-csv/ZTF25aaqwxyz.csv"),
    ("alerce", "10-alerce-csv/detections_ZTF21abzzzzz.csv"),
    ("irsa", "11-irsa-lightcurve/lc_680101400005678.csv"),
    ("snana", "19-snana/SN31a.snana.dat"),
]


@functools.cache
def reader(survey: str) -> Any:
    return reader_of(load_survey(survey))


def read(survey: str, path: Path) -> tuple[int, int, list[dict[str, Any]]]:
    """Return how many rows were taken and refused, and the rows that say that the file is none."""
    rows = [r for b in reader(survey)([str(path)]) for r in b.to_pylist()]
    taken = sum(json.loads(r["own"])["rows"] for r in rows if r["row"] == "packet")
    refused = sum(r["row"] == "bad" for r in rows)
    return taken, refused, [r for r in rows if r["row"] == "broken"]


@pytest.mark.parametrize(("survey", "file"), SERVICES)
def test_an_odd_word_in_a_service_s_table_is_never_silent(
    survey: str, file: str, cases: Path, tmp_path: Path
) -> None:
    rng, path = random.Random(survey), tmp_path / Path(file).name
    lines = (cases / file).read_text().splitlines()
    path.write_text("\n".join(lines) + "\n")
    n, refused, broken = read(survey, path)
    assert (refused, broken) == (0, [])
    # the rows are the last lines, but for what ends SNANA's text
    last = [i for i, line in enumerate(lines) if re.match(r"[\w-]*[\d.]|OBS:", line.strip())][-n:]
    assert len(last) == n
    said = 0
    for _ in range(CHANGES):
        at = rng.choice(last)
        cells = list(re.finditer(r"[^\s,]+", lines[at]))
        cell = rng.choice([c for c in cells if c.group() != "OBS:"])
        word = rng.choice([w for w in WORDS if w.strip() and w != "#"])
        changed = lines[at][: cell.start()] + word + lines[at][cell.end() :]
        path.write_text("\n".join([*lines[:at], changed, *lines[at + 1 :]]) + "\n")
        taken, refused, broken = read(survey, path)
        assert taken + refused >= n or broken, (changed, taken, refused)
        assert all(row["detail"] for row in broken)
        said += bool(refused or broken)
    print(f"{survey}: {CHANGES} changes, {said} reported")
    assert said > 0.05 * CHANGES
