"""Conditions on catalogue columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.sky.where import Condition

TABLE = pa.table({"z": [0.1, 0.5, None, -1.0], "type": ["G", "S", "G", None], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("z > 0", [True, True, False, False]),
        ("not z > 0", [False, False, False, True]),
        ("z is null", [False, False, True, False]),
        ("z is not null and type == 'G'", [True, False, False, False]),
        ("type in ['G', 'S']", [True, True, True, False]),
        ("type not in ['S']", [True, False, True, False]),
        ("0 < z < 0.3 or n >= 4", [True, False, False, True]),
        ("abs(z) * 2 + 1 > n", [True, False, False, False]),
        ("n / 2 == 1", [False, True, False, False]),
        ("z > -0.5", [True, True, False, False]),
    ],
)
def test_a_condition_is_met_where_it_says(text: str, met: list[bool]) -> None:
    assert Condition.read(text).mask(TABLE).tolist() == met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z >", "cannot be read"),
        ("__import__('os')", "is no part of a condition"),
        ("z.real > 1", "is no part of a condition"),
        ("type in z", "is no part of a condition"),
        ("z is 3", "is no part of a condition"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Condition.read(text)


def test_absent_columns_and_wrong_types_are_told() -> None:
    with pytest.raises(ConfigError, match="no column 'zz'; did you mean 'z'"):
        Condition.read("zz > 1").mask(TABLE)
    with pytest.raises(ConfigError, match="condition 'type > 1'"):
        Condition.read("type > 1").mask(TABLE)
