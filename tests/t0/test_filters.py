"""The filters' parameters, and the cuts they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.t0 import FILTERS, Conditions, DecentFilter, SimpleDecentFilter, make_filter
from tests.t0.packets import HU_RAPID

OPTIONAL = {"min_archive_tspan", "max_archive_tspan", "min_drb"}


def test_decent_filter_requires_what_ampel_requires() -> None:
    fields = DecentFilter.model_fields
    required = {name for name, field in fields.items() if field.is_required()}
    assert required == HU_RAPID.keys()
    assert fields.keys() - required == OPTIONAL
    defaults = make_filter("DecentFilter", HU_RAPID).model_dump(include=OPTIONAL)
    assert defaults == {"min_archive_tspan": 0.0, "max_archive_tspan": 1e5, "min_drb": 0.0}


def test_simple_decent_filter_has_the_defaults_of_ampel() -> None:
    assert SimpleDecentFilter().model_dump() == {
        "min_ndet": 2, "min_tspan": 0.02, "max_tspan": 25.0, "min_archive_tspan": 0.0,
        "max_archive_tspan": 1e5, "min_drb": 0.0, "min_rb": 0.3, "max_fwhm": 5.0, "max_elong": 1.4,
        "max_magdiff": 0.4, "max_nbad": 0, "min_sso_dist": 20.0, "min_gal_lat": 0.0,
        "ps1_sgveto_rad": 2.0, "ps1_sgveto_th": 0.8, "ps1_confusion_rad": 1.0,
        "ps1_confusion_sg_tol": 0.5,
    }  # fmt: skip


def test_the_cuts_stand_in_the_order_of_ampel() -> None:
    cuts = make_filter("DecentFilter", HU_RAPID | {"min_drb": 0.5}).cuts()
    assert [cut.name for cut in cuts] == [
        "min_ndet", "min_tspan", "max_tspan", "missing keys", "isdiffpos", "min_rb", "min_drb",
        "max_fwhm", "max_elong", "max_magdiff", "max_nbad", "min_archive_tspan",
        "max_archive_tspan", "min_sso_dist", "min_gal_lat", "ps1_star", "ps1_confusion",
        "gaia_star",
    ]  # fmt: skip


def test_all_has_no_cut_and_no_parameter() -> None:
    assert make_filter("All").cuts() == []
    with pytest.raises(ConfigError, match="no parameter 'min_ndet'"):
        make_filter("All", {"min_ndet": 1})


@pytest.mark.parametrize("name", FILTERS)
def test_every_parameter_has_a_meaning(name: str) -> None:
    for parameter, field in FILTERS[name].model_fields.items():
        assert field.description, parameter


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("DecentFliter", {}, "no filter 'DecentFliter'; did you mean 'DecentFilter'?"),
        ("SimpleDecentFilter", {"min_ndett": 2}, "'min_ndett'; did you mean 'min_ndet'?"),
        ("SimpleDecentFilter", {"gaia_rs": 20}, "no parameter 'gaia_rs'"),
        ("SimpleDecentFilter", {"min_rb": "high"}, "config.min_rb = 'high': a number"),
        ("SimpleDecentFilter", {"min_rb": float("nan")}, "NaN is no threshold"),
        ("SimpleDecentFilter", {"min_tspan": 30}, "min_tspan (30.0) is above max_tspan (25.0)"),
        ("SimpleDecentFilter", {"min_ndet": 2.5}, "min_ndet"),
        ("Conditions", {}, "conditions is required"),
        ("Conditions", {"conditions": []}, "conditions"),
        ("Conditions", {"conditions": ["rbb > 1"]}, "did you mean 'rb'?"),
        ("Conditions", {"conditions": ["rb > 1"], "by_group": [["rbb > 1"]]}, "did you mean 'rb'?"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_cure(
    name: str, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make_filter(name, config)
    assert says in str(error.value)


def test_a_filter_of_ones_own_is_taken_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ampel_spark.t0 import Filter\n\n\nclass Bright(Filter):\n    limit: float = 18.0\n\n"
        "    def cuts(self):\n        return []\n"
    )
    made = make_filter("mine.py:Bright", {"limit": 17}, tmp_path)
    assert made.model_dump() == {"limit": 17.0}
    with pytest.raises(ConfigError, match=r"no class 'Brigt' there; did you mean 'Bright'"):
        make_filter("mine.py:Brigt", {}, tmp_path)
    with pytest.raises(ConfigError, match=r"config\.limt = 1: no parameter 'limt'; did you mean"):
        make_filter("mine.py:Bright", {"limt": 1}, tmp_path)


def test_all_missing_parameters_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        make_filter("DecentFilter", {})
    for name in HU_RAPID:
        assert f"{name} is required: " in str(error.value)


def test_filters_with_the_same_parameters_are_equal() -> None:
    a = Conditions(conditions=("rb > 0.3",))
    assert a == make_filter("Conditions", {"conditions": ["rb > 0.3"]})
    assert hash(a) == hash(make_filter("Conditions", {"conditions": ["rb > 0.3"]}))
