"""Links are AMPEL's; state ids tell contents apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampel_spark.t1.links import link_of, links, state_ids

IDS = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), unique=True, max_size=30)


@pytest.mark.parametrize(
    ("ids", "link"),
    [
        ([1], -199972539),
        ([1, 2, 3], 920685603),
        ([3, 2, 1], 920685603),
        ([-5, 7], -110862791),
        ([595147624915010001], -89709742),
        (list(range(1, 101)), 1271364891),
    ],
)
def test_links_are_those_of_ampel(ids: list[int], link: int) -> None:
    assert link_of(ids) == link


@given(st.lists(IDS, max_size=6))
def test_links_of_many_states_are_the_links_of_each(states: list[list[int]]) -> None:
    flat = np.array([i for ids in states for i in sorted(ids)], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, states)])
    assert links(flat, offsets) == [link_of(ids) for ids in states]


def test_a_state_id_depends_on_content_and_object_and_on_nothing_around_it() -> None:
    rows = np.arange(12, dtype=np.int64).reshape(6, 2)
    three = state_ids([b"a", b"a", b"b"], rows, np.array([0, 2, 4, 6]))
    assert len(set(three)) == 3
    assert all(len(i) == 32 for i in three)
    assert state_ids([b"a"], rows[2:4], np.array([0, 2])) == [three[1]]
    assert state_ids([b"b"], rows[2:4], np.array([0, 2])) != [three[1]]
    # the same numbers split otherwise are other states
    assert state_ids([b"a", b"a", b"b"], rows, np.array([0, 1, 4, 6]))[0] != three[0]
