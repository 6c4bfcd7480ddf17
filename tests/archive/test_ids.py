"""Ids are AMPEL's: vectors from runs of AMPEL and from its tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampel_spark.archive.ids import forced_id, stock_of, upper_limit_id, ztf_name


@pytest.mark.parametrize(
    ("name", "stock"),
    [
        ("ZTF17aaaaaaa", 0),
        ("ZTF18abxhyqv", 360504273),
        ("ZTF20abyfpze", 367159587),
        ("ZTF22aaaaaab", 21),
        ("ZTF32zzzzzzz", 128508962815),
    ],
)
def test_stock_ids_are_those_of_ampel(name: str, stock: int) -> None:
    assert stock_of(name) == stock
    assert ztf_name(stock) == name


@given(st.integers(0, (26**7 << 4) - 1))
def test_every_stock_id_has_one_name(stock: int) -> None:
    assert stock_of(ztf_name(stock)) == stock


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ZTF16aaaaaaa",
        "ZTF33aaaaaaa",
        "ZTF18abxhyq",
        "ZTF18ABXHYQV",
        "ZTF18abxhyqvv",
        "SN2011fe",
    ],
)
def test_what_is_no_ztf_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a ZTF name"):
        stock_of(name)


@pytest.mark.parametrize("stock", [-1, 26**7 << 4])
def test_what_is_no_stock_id_is_refused(stock: int) -> None:
    with pytest.raises(ValueError, match="is no ZTF stock id"):
        ztf_name(stock)


def test_the_upper_limit_id_of_ampels_docstring() -> None:
    limit = 19.024799346923828
    assert upper_limit_id(2458089.7405324, None, 335240532815, limit) == -3352405322819025
    # the readout channel, where the packet has it, wins over the one in pid
    assert upper_limit_id(2458089.7405324, 28, 0, limit) == -3352405322819025


def test_forced_ids_lie_apart_and_do_not_depend_on_values() -> None:
    one = forced_id(360504273, 2460227.8604861, 1, 500, 11)
    assert -(1 << 63) <= one <= -(1 << 62) < upper_limit_id(2500000.0, 63, 0, 25.0)
    assert one == forced_id(360504273, 2460227.8604861, 1, 500, 11)
    others = [(360504274, 2460227.8604861, 1, 500, 11), (360504273, 2460227.8604862, 1, 500, 11),
              (360504273, 2460227.8604861, 2, 500, 11), (360504273, 2460227.8604861, 1, 501, 11),
              (360504273, 2460227.8604861, 1, 500, None)]  # fmt: skip
    assert len({one, *(forced_id(*o) for o in others)}) == 6
