"""ZTF's numbers, against AMPEL's vectors and the survey's own files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ampel_spark.archive.ids import stock_of
from ampel_spark.simulate.names import candids, image_stem, names_of, pids, stocks

# AMPEL's ZTFIdMapper.
VECTORS = {
    "ZTF17aaaaaaa": 0,
    "ZTF18abxhyqv": 360504273,
    "ZTF20abyfpze": 367159587,
    "ZTF22aaaaaab": 21,
    "ZTF32zzzzzzz": 128508962815,
}


@pytest.mark.parametrize(("name", "stock"), VECTORS.items())
def test_names_and_stocks_are_ampels(name: str, stock: int) -> None:
    number, year = np.array([stock >> 4]), np.array([int(name[3:5])])
    assert names_of(number, year) == [name]
    assert stocks(number, year).tolist() == [stock]


def test_an_image_is_numbered_as_the_survey_did() -> None:
    # Candidate 2480088313915010007 of the night of 2023-10-17.
    pid = pids(np.array([2460234.5883102]), np.array([39]))
    assert pid.tolist() == [2480088313915]
    assert candids(pid, 7).tolist() == [2480088313915010007]
    assert image_stem("20231017", 2480088313915, 430, 2, 39) == (
        "ztf_20231017088310_000430_zr_c10_o_q4"
    )


def test_all_names_of_an_archive_are_valid_and_used_once(truth: pd.DataFrame) -> None:
    assert truth.index.is_unique
    assert truth["stock"].is_unique
    assert [stock_of(name) for name in truth.index] == truth["stock"].tolist()


def test_candids_are_those_of_their_images(candidates: pd.DataFrame) -> None:
    assert candidates["candid"].is_unique
    assert (candidates["pid"] == candidates["candid"] // 1_000_000).all()
    assert (candidates["rcid"] == candidates["pid"] % 10_000 // 100).all()
    assert (candidates["nid"] == np.floor(candidates["jd"] - 2457754.5)).all()
    assert (candidates["candid"] % 10_000 == candidates["tblid"]).all()
