"""Small models for tests of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ampel_spark.classifiers import Model, train

CLASSES = {"recurrence": (2200, 2300), "periodicity": (2320, 2330), "transients": (2222, 2224)}
INPUTS = ("mag_det", "t_lc", "abs_peak_mag_ztfg", "z")


def small_model(name: str, classes: Sequence[int], features_id: int = 0) -> Model:
    """Return a model that tells its classes by magnitude and redshift."""
    random = np.random.default_rng(len(name))
    objects = np.arange(240)
    labels = np.asarray(classes)[objects % len(classes)]
    place = (objects % len(classes))[:, None]
    matrix = random.normal([18.0, 20.0, -18.0, 0.1], [1.0, 9.0, 1.0, 0.03], (240, 4))
    matrix += place * [1.0, 5.0, 1.0, 0.05]
    states = [f"{i:032x}" for i in objects]
    return train(name, INPUTS, matrix, labels, states, objects, classes=classes, rounds=5,
                 origin={"features_id": features_id})  # fmt: skip


def write_models(folder: Path, features_id: int = 0) -> dict[str, str]:
    """Write the models of the classifiers that come with the project; return their files."""
    for name, classes in CLASSES.items():
        (folder / f"{name}.json").write_text(small_model(name, classes, features_id).to_json())
    return {name: f"{name}.json" for name in CLASSES}
