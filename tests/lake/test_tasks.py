"""Items made ahead: which, when, and what becomes of errors and of readers who stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ampel_spark.lake.tasks import ahead


def test_items_come_in_their_order_and_all_of_them() -> None:
    assert list(ahead(iter(range(1000)))) == list(range(1000))
    assert list(ahead([None, 0, ""])) == [None, 0, ""]
    assert list(ahead([])) == []


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i, event in enumerate(made):
            event.set()
            yield i

    coming = ahead(items())
    assert next(coming) == 0
    assert made[1].wait(60)
    assert not made[2].is_set()  # one, and no more: memory is bounded
    assert list(coming) == [1, 2]


def test_an_error_is_raised_in_the_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second"):
        next(coming)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    coming = ahead(iter(range(1000)))
    next(coming)
    coming.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
