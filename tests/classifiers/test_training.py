"""Models: the same rows make the same trees, and a document of trees is not changed unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from ampel_spark.classifiers import Model
from ampel_spark.classifiers.metrics import (
    area_under_curve,
    confusion,
    efficiency_purity,
    reliability,
    summary,
)
from ampel_spark.classifiers.redshifts import distance_modulus, of_errors
from ampel_spark.classifiers.taxonomy import NAMES, ancestors, class_of
from ampel_spark.classifiers.training import balanced_weights, fold_of, train
from ampel_spark.errors import ConfigError

INPUTS = ("peak_mag_r", "width_r", "z")


def rows(n: int = 600) -> dict[str, Any]:
    """Return states of objects of three classes, two states each."""
    random = np.random.default_rng(4)
    objects = np.repeat(np.arange(n // 2), 2)
    labels = np.array([2222, 2224, 2243])[objects % 3]
    matrix = random.normal(0, 1, (n, 3)) + (labels[:, None] == [2222, 2224, 2243]) * 2.0
    matrix[::7, 2] = np.nan
    return {
        "matrix": matrix,
        "labels": labels,
        "objects": objects,
        "states": [f"{i * 7919 % 100003:032x}" for i in range(n)],
    }


def trained(order: Any = slice(None), **changes: Any) -> Model:
    made = rows()
    states = np.array(made["states"])[order].tolist()
    columns = [made[k][order] for k in ("matrix", "labels")]
    more = {"rounds": 8, "seed": 3} | changes
    return train("sn", INPUTS, *columns, states, made["objects"][order], **more)


def test_shuffled_rows_make_the_same_trees_and_another_seed_or_row_does_not() -> None:
    model = trained()
    shuffled = trained(np.random.default_rng(9).permutation(600))
    assert (shuffled.model_id, shuffled.origin) == (model.model_id, model.origin)
    assert trained(slice(0, 598)).origin["rows_hash"] != model.origin["rows_hash"]
    other = {"bagging_fraction": 0.5, "bagging_freq": 1}
    ids = {trained(parameters=other, seed=s).model_id for s in (1, 2)} | {model.model_id}
    assert len(ids) == 3


def test_another_process_makes_the_same_trees() -> None:
    code = "from tests.classifiers.test_training import trained; print(trained().model_id)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert answer.stdout.strip() == trained().model_id


def test_a_document_gives_the_same_predictions_and_is_not_changed_unnoticed(tmp_path: Path) -> None:
    model, made = trained(), rows()
    file = tmp_path / "sn.json"
    file.write_text(model.to_json())
    again = Model.read(file)
    assert again.model_id == model.model_id
    found = again.predict(made["matrix"])
    np.testing.assert_array_equal(found, model.predict(made["matrix"]))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    file.write_text(file.read_text().replace("leaf_value=", "leaf_value=-", 1))
    with pytest.raises(ConfigError, match="it was changed; train it again"):
        Model.read(file)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="is no model"):
        Model.read(file)
    with pytest.raises(ConfigError, match="cannot read the model"):
        Model.read(tmp_path / "absent.json")


def test_inputs_are_made_of_features_and_the_redshift() -> None:
    model = Model("m", "", ("z", "abs_peak_mag_r", "rest_width_r", "width_r"), (2222, 2224))
    columns = {"peak_mag_r": np.array([20.0, 20.0]), "width_r": np.array([11.0, 11.0])}
    z = np.array([0.1, np.nan])
    found = model.matrix(columns, z)
    modulus = FlatLambdaCDM(H0=70, Om0=0.3).distmod(0.1).value
    np.testing.assert_allclose(found[0], [0.1, 20 - modulus, 10.0, 11.0], rtol=1e-5)
    assert np.isnan(found[1, :3]).all() and found[1, 3] == 11.0  # noqa: PT018
    assert model.features() == ["peak_mag_r", "width_r"]
    with pytest.raises(ConfigError, match="takes the input 'abs_peak_mag_r', which no feature"):
        model.matrix({"width_r": np.zeros(2)}, z)


def test_distances_are_astropy_s() -> None:
    z = np.array([0.0005, 0.02, 0.3, 1.0, 3.0, 5.9])
    expected = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0).distmod(z).value
    np.testing.assert_allclose(distance_modulus(z), expected, atol=2e-4)


def test_samples_of_a_redshift_without_an_error_are_that_redshift() -> None:
    samples, weights = of_errors(np.array([0.1]), np.array([np.nan]))
    assert samples.tolist() == [[0.1, 0.1, 0.1]]
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_states_of_an_object_are_in_one_fold_and_weigh_as_one() -> None:
    objects = np.array([7, 8, 7, 9, 9, 9])
    folds = fold_of(objects)
    assert folds[0] == folds[2]
    assert folds[3] == folds[4] == folds[5]
    assert np.bincount(fold_of(np.arange(5000))).min() > 900
    weights = balanced_weights(np.array([1, 2, 1, 2, 2, 2]), objects)
    assert weights[[1]].sum() == pytest.approx(weights[3:].sum())
    assert weights[[0, 2]].sum() == pytest.approx(weights[[1, 3, 4, 5]].sum())


def test_labels_that_are_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make classes"):
        trained(classes=[2222, 2224])


@pytest.mark.parametrize(
    ("word", "role"), [("jd_det", "date"), ("rest_n_ztfg", "count"), ("peak_bands", "bands")]
)
def test_no_date_count_or_name_of_a_band_reaches_a_model(word: str, role: str) -> None:
    made = rows()
    with pytest.raises(ConfigError, match=f"cannot have the input '{word}': its role is '{role}'"):
        train("m", (word, "a", "b"), made["matrix"], made["labels"], made["states"],
              made["objects"])  # fmt: skip


def test_classes_have_names_and_ancestors() -> None:
    assert all(set(ancestors(n)) <= set(NAMES) for n in NAMES)
    assert class_of("2222") == class_of("sn_ia") == 2222


def test_measures_are_those_of_plain_counting() -> None:
    random = np.random.default_rng(2)
    positive, score = random.random(200) < 0.4, random.integers(0, 9, 200) / 9
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a in score[positive] for b in score[~positive]
    ]  # fmt: skip
    area, error = area_under_curve(positive, score)
    assert area == pytest.approx(np.mean(pairs))
    assert 0.02 < error < 0.06
    assert np.isnan(area_under_curve(positive[:0], score[:0])[0])
    labels = np.array([1, 1, 2, 2, 2])
    assert confusion(labels, np.array([1, 2, 2, 2, 1]), [1, 2]).tolist() == [[1, 1], [1, 2]]
    likely = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    told = summary(labels, likely, [1, 2])
    assert told["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    losses = -np.log([0.9, 0.4]).mean(), -np.log([0.8, 0.7, 0.4]).mean()
    assert told["balanced_log_loss"] == pytest.approx(np.mean(losses))
    row = efficiency_purity(labels == 2, likely[:, 1], {"all": np.ones(5, bool)}, (0.5,))[0]
    assert row["efficiency>0.5"] == row["purity>0.5"] == pytest.approx(2 / 3)
    sure = reliability(np.array([True, False]), np.array([1.0, 1.0]))
    assert sure["expected_error"] == 0.5
