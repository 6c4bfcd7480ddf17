"""Tables of a report: which columns they show."""

from __future__ import annotations

import pandas as pd

from ampel_spark.t3.cells import candidate_table, result_rows
from ampel_spark.t3.content import Result, Selected


def test_an_error_stands_with_its_number_and_by_itself_beside_text() -> None:
    table = pd.DataFrame(
        {"rank": [1], "name": ["a"], "x": [1.0], "x_err": [0.1], "host": ["M31"], "host_err": [2.0]}
    )
    heads, ((*_, x, host, error),) = candidate_table(Selected("s", "SN", table), {})
    assert [head.label for head in heads] == ["rank", "name", "x", "host", "host_err"]
    assert (x.text, host.text, error.value) == ("1.00 ± 0.10", "M31", "2.0")
    result = Result("unit", {"x": 1.0, "x_err": 0.1, "host": "M31", "host_err": 2.0, "y_err": None})
    shown = [(row.label, row.text) for row in result_rows(result)]
    assert shown == [("x", "1.00 ± 0.10"), ("host", "M31"), ("host_err", "2.000"), ("y_err", "–")]
