"""Classes of objects: probabilities by trained models, trees of them, and priors."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.classifiers.model import Model
from ampel_spark.classifiers.redshifts import of_errors, of_quantiles
from ampel_spark.classifiers.settings import Classifier, read_classifier
from ampel_spark.classifiers.taxonomy import NAMES
from ampel_spark.errors import ConfigError
from ampel_spark.files import stamp
from ampel_spark.lightcurve import LightCurveBatch
from ampel_spark.settings import conf_file
from ampel_spark.t2.unit import MISSING_DEPENDENCY, Column, Unit

__all__ = ["Classify"]

Floats = NDArray[np.float64]

_NO_DETECTION, _OTHER_FEATURES = 1, 2


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TiedColumn(_Part):
    """A number of another entry."""

    unit: str
    "T2 entry."

    column: str
    "Column of it."


class ClassifyRedshift(_Part):
    """Where redshifts come from."""

    unit: str
    "T2 entry."

    column: str = "z"
    "Redshift; with `quantiles`, a list of eleven: at 0, 10 … 100 %."

    sigma_column: str | None = None
    "Its error; three samples within 1.5 of it are taken."


class Classify(Unit):
    """Probabilities of classes, by each of some classifiers, of the same features.

    Probabilities of each model are computed once. Where redshifts have errors, probabilities are
    means over samples of them, by their weights.
    """

    classifiers: tuple[str, ...] = ("infant", "unbiased", "max_posterior")
    "Names of classifiers (conf/classifiers)."

    classifier_files: tuple[Path, ...] = ()
    "Files of classifiers of one's own; each is called by the name of its file."

    models: dict[str, Path]
    "Files of models, by the names that classifiers call them."

    features: str = "light_curve_features"
    "T2 entry with the features."

    numbers: dict[str, TiedColumn] = Field(default_factory=dict)
    "More numbers that models and priors take, as of the host: name, and where it is from."

    redshift: ClassifyRedshift | None = None
    "Redshifts; none by default."

    quantiles: bool = False
    "Whether the redshift is a list of eleven quantiles, as photometric ones are."

    single: bool = False
    "Whether the redshift sample of the largest weight counts alone; else the mean over all."

    libraries = ("numpy", "lightgbm")
    input_fields = ()
    meanings: ClassVar[Mapping[int, str]] = {
        _NO_DETECTION: "no detection: nothing to judge",
        _OTHER_FEATURES: "a model was trained with other features",
    }

    def needs(self) -> Sequence[str]:
        """Return the entries of features, redshift and further inputs."""
        more = [column.unit for column in self.numbers.values()]
        z = [self.redshift.unit] if self.redshift else []
        return tuple(dict.fromkeys([self.features, *z, *more]))

    def files(self) -> Sequence[Path]:
        """Return the named classifiers: their content is part of the trace, as that of models."""
        return [conf_file("classifiers", name) for name in self.classifiers]

    def output_columns(self) -> Sequence[Column]:
        """Return the winner of each classifier, and the probability of each class."""
        return [column for name in self._read() for column in self._columns(name)]

    def point_fields(self) -> Sequence[str]:
        """Return one field: features are all that is looked at."""
        return ("kind",)

    def states_per_task(self) -> int:
        """Return many: ten thousand states take a second."""
        return 2000

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Classify many states at once."""
        read, models = self._read(), self._models()
        classes = {name: [*model.classes] for name, model in models.items()}
        status, message = self._refusals(batch, models)
        good = np.flatnonzero(status == 0)
        inputs = {name: batch.tied(c.unit, c.column)[1][good] for name, c in self.numbers.items()}
        columns = {
            name: batch.tied(self.features, name)[1][good]
            for model in models.values()
            for name in model.features()
            if name not in inputs
        } | inputs
        z, weights = self._redshifts(batch, good)
        totals: dict[str, Floats] = {}
        notes: dict[str, list[set[str]]] = {name: [set() for _ in good] for name in read}
        for k in range(z.shape[1]):
            likely = {name: m.predict(m.matrix(columns, z[:, k])) for name, m in models.items()}
            for name, classifier in read.items():
                now, without = classifier.classified(likely, classes, inputs | {"z": z[:, k]})
                totals[name] = totals.get(name, 0.0) + weights[:, k : k + 1] * now
                for at, words in enumerate(without):
                    notes[name][at].update(words)
        out: dict[str, Any] = {"status": status, "message": message}
        for name, classifier in read.items():
            leaves = classifier.tree.leaves(classes)
            out |= self._rows(name, leaves, totals[name], notes[name], good, len(batch))
        return out

    def _rows(
        self,
        name: str,
        leaves: list[int],
        probabilities: Floats,
        notes: Sequence[set[str]],
        good: NDArray[np.int64],
        m: int,
    ) -> dict[str, Any]:
        full = np.full((m, len(leaves)), np.nan)
        full[good] = probabilities
        best = probabilities.argmax(axis=1)
        winner = np.full(m, np.nan)
        winner[good] = np.array(leaves)[best]
        words = np.full(m, None, object)
        words[good] = [NAMES[leaves[i]] for i in best]
        without = np.full(m, None, object)
        without[good] = [", ".join(sorted(names)) or None for names in notes]
        return {
            f"{name}_class": winner,
            f"{name}_name": words,
            f"{name}_probability": np.where(np.isnan(winner), np.nan, full.max(axis=1)),
            f"{name}_without": without,
        } | {f"{name}_p{leaf}": full[:, j] for j, leaf in enumerate(leaves)}

    def _columns(self, name: str) -> list[Column]:
        classes = {n: [*model.classes] for n, model in self._models().items()}
        leaves = self._read()[name].tree.leaves(classes)
        return [
            Column(f"{name}_class", "int", "", "most probable class, by number of the taxonomy"),
            Column(f"{name}_name", "string", "", "its name"),
            Column(f"{name}_probability", "double", "", "its probability"),
            Column(f"{name}_without", "string", "", "priors that could not be applied"),
            *(Column(f"{name}_p{leaf}", "double", "", f"probability of {NAMES[leaf]}")
              for leaf in leaves),
        ]  # fmt: skip

    def _refusals(
        self, batch: LightCurveBatch, models: Mapping[str, Model]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """Return status and message of each state: 0 where it can be judged."""
        present, detections = batch.tied(self.features, "ndet")
        ids = batch.tied(self.features, "features_id")[1]
        status = np.zeros(len(batch), np.int64)
        message = np.full(len(batch), "", object)
        for name, model in models.items():
            for i in np.flatnonzero((ids != model.features_id) & (model.features_id != 0)):
                status[i] = _OTHER_FEATURES
                message[i] = (
                    f"model {name} was trained with features {model.features_id},"
                    f" {self.features} has {ids[i]:.0f}"
                )
        none = present & ~(detections > 0)
        status[none], message[none] = _NO_DETECTION, "no detection in a significant band"
        status[~present] = MISSING_DEPENDENCY
        message[~present] = f"{self.features} has no result"
        return status, message.tolist()

    def _redshifts(self, batch: LightCurveBatch, good: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return samples of redshifts and their weights, shape (states, samples)."""
        if self.redshift is None:
            return np.full((good.size, 1), np.nan), np.ones((good.size, 1))
        at = self.redshift
        if self.quantiles:
            rows = batch.results.get(at.unit) or [None] * len(batch)
            lists = [(rows[i] or {}).get(at.column) or [np.nan] * 11 for i in good]
            z, weights = of_quantiles(np.array(lists, np.float64).reshape(-1, 11))
        else:
            values = batch.tied(at.unit, at.column)[1][good]
            if at.sigma_column is None:
                z, weights = values[:, None], np.ones((good.size, 1))
            else:
                z, weights = of_errors(values, batch.tied(at.unit, at.sigma_column)[1][good])
        if self.single:
            best = weights.argmax(axis=1)[:, None]
            return np.take_along_axis(z, best, 1), np.ones((good.size, 1))
        return z, weights

    def _read(self) -> dict[str, Classifier]:
        files = {path.stem: path for path in self.classifier_files}
        if twice := sorted({*files} & {*self.classifiers}):
            raise ConfigError(f"classifier {twice[0]!r} is there by name and by file: rename one")
        named = {name: read_classifier(name) for name in self.classifiers}
        return named | {name: read_classifier(path) for name, path in files.items()}

    def _models(self) -> dict[str, Model]:
        """Return the models that the classifiers ask for, by name."""
        found: dict[str, Model] = {}
        for title, classifier in self._read().items():
            for name in classifier.tree.models():
                if name not in self.models:
                    raise ConfigError(
                        f"classifier {title!r} asks for the model {name!r}: name its file by"
                        f" `models: {{{name}: FILE}}`; `ampel-spark train` writes one"
                    )
                path = self.models[name]
                found[name] = _model(path, stamp(path))
        return found


@functools.lru_cache(maxsize=32)
def _model(path: Path, known_by: tuple[int, ...]) -> Model:
    return Model.read(path)
