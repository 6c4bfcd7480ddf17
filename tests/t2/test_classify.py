"""The unit of classifiers: several readings of the same likelihoods, redshifts, abstention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.classifiers import Model
from ampel_spark.errors import ConfigError
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of
from ampel_spark.t2.units.classify import Classify
from tests.t2.models import write_models

Build = Callable[..., Classify]
FEATURES = {"ndet": 5, "mag_det": 18.2, "t_lc": 21.0, "peak_mag_ztfg": 18.0, "features_id": 77}
HOST = {"z": 0.08, "z_err": 0.02, "u_g": 1.1, "ebv": 0.05,
        "quantiles": [0.05 + 0.01 * i for i in range(11)]}  # fmt: skip
INPUTS = {
    "host_u_g": {"unit": "host", "column": "u_g"},
    "mwebv": {"unit": "host", "column": "ebv"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    write_models(made, 77)
    return made


@pytest.fixture
def made(folder: Path) -> Build:
    names = ("recurrence", "periodicity", "transients")

    def build_it(**config: Any) -> Classify:
        models = {"models": {name: f"{name}.json" for name in names}}
        unit = build("classify", models | {"numbers": INPUTS} | config, folder)
        assert isinstance(unit, Classify)
        return unit

    return build_it


def state(features: Any = None, **results: Any) -> LightCurve:
    found = {"light_curve_features": FEATURES | (features or {}), "host": HOST} | results
    return LightCurve.of(jd=[1.0], results={k: v for k, v in found.items() if v is not None})


def of(row: Any, name: str) -> dict[int, float]:
    return {
        int(k.removeprefix(f"{name}_p")): float(v)
        for k, v in row.items()
        if k.startswith(f"{name}_p2")
    }


def test_three_classifiers_read_the_same_likelihoods(made: Build) -> None:
    unit = made()
    row = unit.process(state())
    assert {c.name for c in unit.output_columns()} == set(row) - {"status", "message"}
    infant, unbiased, best = (of(row, n) for n in ("infant", "unbiased", "max_posterior"))
    assert [*infant] == [2200, 2320, 2330]
    assert [*unbiased] == [*best] == [2222, 2224, 2320, 2330]
    for reading in (infant, unbiased, best):
        assert sum(reading.values()) == pytest.approx(1.0, abs=1e-9)
    assert unbiased[2222] + unbiased[2224] == pytest.approx(infant[2200])
    # rates of 663 to 168, and colours
    u, sigma = 1.1 - 1.1582821 * 0.05, {2222: (0.6103, 0.3927), 2224: (0.8752, 0.5298)}
    weight = {
        c: unbiased[c] * r * np.exp(-0.5 * ((u - sigma[c][0]) / sigma[c][1]) ** 2)
        for c, r in ((2222, 663), (2224, 168))
    }
    expected = infant[2200] * weight[2222] / sum(weight.values())
    assert best[2222] == pytest.approx(expected, rel=1e-6)
    winner = max(best, key=best.__getitem__)
    assert row["max_posterior_class"] == winner
    assert row["max_posterior_probability"] == pytest.approx(best[winner])
    assert row["max_posterior_without"] is None


def test_many_states_are_classified_as_one_is(made: Build) -> None:
    unit = made(redshift={"unit": "host", "sigma_column": "z_err"})
    curves = [
        state(),
        state(light_curve_features=None),
        state({"ndet": 0}),
        state({"mag_det": None, "t_lc": 3.0}),
        state(host=None),
        state({"features_id": 78}),
    ]
    columns = unit.process_batch(LightCurveBatch.of(curves))
    assert columns["status"].tolist() == [0, -2006, 1, 0, 0, 2]
    assert "trained with features 77, light_curve_features has 78" in columns["message"][5]
    assert "no detection" in columns["message"][2]
    # without a host there is no colour to go by
    assert columns["max_posterior_without"][4] == "host_colour"
    for i, curve in enumerate(curves):
        if columns["status"][i] != 0:
            with pytest.raises(Refusal) as refused:
                unit.process(curve)
            assert refused.value.status == columns["status"][i]
            assert str(refused.value) == columns["message"][i]
            continue
        for name, value in unit.process(curve).items():
            many = columns[name][i]
            assert many == value or (many != many and value != value), name


def test_probabilities_are_means_over_samples_of_the_redshift(made: Build) -> None:
    known = {"unit": "host"}

    def at(z: float, **config: Any) -> float:
        row = made(redshift=known | config.pop("more", {}), **config).process(
            state(host=HOST | {"z": z})
        )
        return of(row, "unbiased")[2222]

    errors = {"more": {"sigma_column": "z_err"}}
    one, two, three = at(0.05), at(0.08), at(0.11)
    assert len({one, two, three}) > 1
    mean = (0.19684199 * (one + three) + 0.60631602 * two) / 1.0
    assert at(0.08, **errors) == pytest.approx(mean, abs=1e-7)
    assert at(0.08, single=True, more={"sigma_column": "z_err"}) == pytest.approx(two)
    quantiles = made(redshift={"unit": "host", "column": "quantiles"}, quantiles=True)
    found = of(quantiles.process(state()), "unbiased")[2222]
    assert found == pytest.approx(0.2 * at(0.07) + 0.6 * at(0.10) + 0.2 * at(0.13), abs=1e-9)
    # without a redshift its inputs are unknown
    assert of(made().process(state()), "unbiased")[2222] == of(
        made(redshift=known).process(state(host=HOST | {"z": None})), "unbiased"
    ).get(2222)


def test_a_fourth_classifier_is_a_file_alone(made: Build, folder: Path) -> None:
    text = "description: any\ntree: {model: transients}\npriors:\n"
    text += "- {kind: rate, name: own, rates: {sn_ia: 0, sn_ii: 0}}\n"
    (folder / "own.yml").write_text(text)
    unit = made(classifiers=["infant"], classifier_files=["own.yml"])
    row = unit.process(state())
    assert sum(of(row, "own").values()) == pytest.approx(1.0, abs=1e-9)
    assert row["own_without"] == "own"
    before = trace_of(unit, "classify").trace_id
    (folder / "own.yml").write_text(text.replace("sn_ii: 0", "sn_ii: 1"))
    assert trace_of(unit, "classify").trace_id != before
    assert made(classifier_files=["own.yml"]).needs() == ("light_curve_features", "host")


def test_likelihoods_are_computed_once_for_all_classifiers(
    made: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = Model.predict

    def counted(self: Model, matrix: Any) -> Any:
        asked.append(self.name)
        return plain(self, matrix)

    monkeypatch.setattr(Model, "predict", counted)
    made().process(state())
    assert sorted(asked) == ["periodicity", "recurrence", "transients"]


def test_what_cannot_be_a_job_s_entry_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="'infant' asks for the model 'recurrence': name its file"
    ):
        build("classify", {"models": {}}, folder)
    with pytest.raises(ConfigError, match="cannot read the model"):
        build("classify", {"models": {"recurrence": "none.json"}}, folder)
    (folder / "infant.yml").write_text("description: any\ntree: {model: transients}\n")
    with pytest.raises(ConfigError, match="'infant' is there by name and by file"):
        build("classify", {"models": {}, "classifier_files": ["infant.yml"]}, folder)
