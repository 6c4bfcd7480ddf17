"""The alert that stands for a state is the newest that its channel accepted by the state's time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ampel_spark.expressions import parse
from ampel_spark.t1.shown import alert_columns, alert_types, newest_accepted
from ampel_spark.t1.states import ALL, LAST_ID


def test_the_newest_accepted_alert_is_what_a_loop_finds() -> None:
    draw = np.random.default_rng(3)
    n = 300
    accepted = pa.table(
        {
            "channel": draw.choice(["A", "B", "C"], n).tolist(),
            "stock": draw.integers(0, 12, n),
            "jd": np.round(draw.uniform(0, 9, n), 0),
            "alert_id": np.arange(n),
        }
    )
    states = pa.table(
        {
            "channel": draw.choice(["A", "B", "D"], n).tolist(),
            "stock": draw.integers(0, 14, n),
            "until_jd": np.where(draw.random(n) < 0.2, ALL, np.round(draw.uniform(0, 9, n), 0)),
            "until_alert_id": np.where(draw.random(n) < 0.5, LAST_ID, draw.integers(0, n, n)),
        }
    )
    expected = []
    for state in states.to_pylist():
        seen = [
            (row["jd"], row["alert_id"])
            for row in accepted.to_pylist()
            if (row["channel"], row["stock"]) == (state["channel"], state["stock"])
            and (row["jd"], row["alert_id"]) <= (state["until_jd"], state["until_alert_id"])
        ]
        expected.append(max(seen)[1] if seen else -1)
    assert newest_accepted(states, accepted).tolist() == expected
    assert newest_accepted(states.slice(0, 0), accepted).tolist() == []
    assert set(newest_accepted(states, accepted.slice(0, 0)).tolist()) == {-1}


def test_expressions_name_columns_of_the_survey_and_common_ones_alike() -> None:
    types = alert_types({"reliability": "float"})
    assert types["alert.reliability"] == "float"
    assert (types["alert.rb"], types["alert.ra"]) == ("float", "double")
    assert "alert.datapoint_ids" not in types
    texts = ("alert.rb > 0.5 and salt_fit.c < 1", "-alert.reliability")
    assert alert_columns(map(parse, texts)) == ["rb", "reliability"]
