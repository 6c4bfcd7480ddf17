"""How results ended: counts of statuses, and the commonest message of what failed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampel_spark.job.execution.outcomes import failures, outcomes


def written(folder: Path, rows: list[tuple[int, str | None, float | None]]) -> list[Path]:
    """Write results into two files."""
    files = []
    for n, part in enumerate((rows[::2], rows[1::2])):
        status, message, took = zip(*part, strict=True)
        table = pa.table(
            {
                "status": pa.array(status, pa.int32()),
                "message": pa.array(message, pa.string()),
                "duration_ms": pa.array(took, pa.float64()),
            }
        )
        files.append(folder / f"{n}.parquet")
        pq.write_table(table, files[-1])
    return files


def test_the_commonest_message_is_told_by_status(tmp_path: Path) -> None:
    rows: list[tuple[int, str | None, float | None]] = [
        *[(0, "good, with a remark", 1.0)] * 9,
        *[(-4, "ValueError: b", 2.0)] * 2,
        *[(-4, "ValueError: a", 2.0)] * 2,
        (-4, "KeyError", None),
        (-2008, None, 4.0),
        (-2008, "one\npoint", 4.0),
        (5, "fine", 1.0),
    ]
    found = outcomes(written(tmp_path, rows))
    assert found == {
        "statuses": {"-2008": 2, "-4": 5, "0": 9, "5": 1},
        "median_ms": 1.0,
        # of two that are as common the first by its letters
        "messages": {"-2008": ["one point", 1], "-4": ["ValueError: a", 2]},
    }
    assert outcomes(written(tmp_path, rows[::-1])) == found
    assert failures(found) == (
        '2 with status -2008, most often "one point" (1); '
        '5 with status -4, most often "ValueError: a" (2)'
    )


def test_messages_are_alike_by_how_they_begin(tmp_path: Path) -> None:
    rows = [(-4, f"{'x' * 400}{n}", 1.0) for n in range(4)]
    assert outcomes(written(tmp_path, [*rows]))["messages"] == {"-4": ["x" * 160 + "…", 4]}


def test_where_nothing_failed_or_said_a_word_there_is_none(tmp_path: Path) -> None:
    good = outcomes(written(tmp_path, [(0, "fine", 1.0), (0, None, None)]))
    assert good == {"statuses": {"0": 2}, "median_ms": 1.0}
    assert failures(good) == ""
    silent = outcomes(written(tmp_path, [(-4, None, None), (0, None, None)]))
    assert silent == {"statuses": {"-4": 1, "0": 1}, "median_ms": None, "messages": {}}
    assert failures(silent) == "1 with status -4"
    # as an older run has it
    assert failures({"statuses": {"-4": 1, "0": 1}}) == "1 with status -4"
