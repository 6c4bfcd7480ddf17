"""A trained model as a document: its text, its inputs, its classes, and where it comes from.

A model is trees of lightgbm as text, which loads to predictions equal to the last bit; nothing is
pickled. It is called by `model_id`, the hash of the trees, which its file and its row in the table
``models`` share.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError

__all__ = ["Model", "digest_of_text", "importance"]

Floats = NDArray[np.float64]

#: Prefixes of inputs that are made of a feature and the redshift.
ABSOLUTE, REST = "abs_", "rest_"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    name : str
    text : str
        lightgbm's text of the trees.
    inputs : sequence of str
        Names of features, in the order of the model's columns. ``z`` is the redshift,
        ``abs_peak_mag_ztfg`` a magnitude less the distance modulus, ``rest_width_ztfg`` a time over
        1 + z.
    classes : sequence of int
        The class of each output, by number of the taxonomy.
    parameters : mapping
        lightgbm's.
    origin : mapping
        ``table, version, rows, rows_hash, seed, split, software, recipe, features`` and others:
        what `ampel_spark.classifiers.training` noted.
    metrics : mapping
        By name of the evaluation set.
    """

    name: str
    text: str
    inputs: Sequence[str]
    classes: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_id(self) -> str:
        """Hash of trees, inputs and classes, 64 hexadecimal digits."""
        digest = digest_of_text(self.text)
        content = json.dumps([digest, [*self.inputs], [*self.classes]], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def features_id(self) -> int:
        """Id of the features that it was trained with; 0 where none was noted."""
        return int(self.origin.get("features_id") or 0)

    def predict(self, matrix: Floats) -> Floats:
        """Return probabilities with shape (M, classes) for inputs with shape (M, inputs).

        A sum differs from 1 by rounding alone.
        """
        if not matrix.shape[0]:
            return np.zeros((0, len(self.classes)))
        found = np.asarray(_booster(self.text).predict(matrix, num_threads=1))
        if found.ndim == 1:
            found = np.stack([1.0 - found, found], axis=1)
        return found / found.sum(axis=1, keepdims=True)

    def matrix(self, columns: Mapping[str, Floats], z: Floats) -> Floats:
        """Return the inputs with shape (M, inputs) of features and redshifts.

        A feature that `columns` lacks is an error; an unknown value is NaN.

        Raises
        ------
        ConfigError
            If a feature is not there.
        """
        from ampel_spark.classifiers.redshifts import distance_modulus

        m = z.size
        out = np.empty((m, len(self.inputs)))
        known = np.isfinite(z) & (z > 0.0)
        modulus = np.full(m, np.nan)
        modulus[known] = distance_modulus(z[known])
        for j, name in enumerate(self.inputs):
            if name == "z":
                out[:, j] = np.where(known, z, np.nan)
            elif name in columns:
                out[:, j] = columns[name]
            elif name.removeprefix(ABSOLUTE) in columns:
                out[:, j] = columns[name.removeprefix(ABSOLUTE)] - modulus
            elif name.removeprefix(REST) in columns:
                out[:, j] = columns[name.removeprefix(REST)] / np.where(known, 1.0 + z, np.nan)
            else:
                raise ConfigError(
                    f"model {self.name!r} takes the input {name!r}, which no feature gives: add its"
                    " band to light_curve_features, or the column to numbers of classify"
                )
        return out

    def features(self) -> list[str]:
        """Return the features that the inputs are made of."""
        plain = (n.removeprefix(ABSOLUTE).removeprefix(REST) for n in self.inputs if n != "z")
        return list(dict.fromkeys(plain))

    def to_json(self) -> str:
        """Return the model as a document."""
        content = {"format": 1, "model_id": self.model_id} | asdict(self)
        return json.dumps(content, indent=1, sort_keys=True)

    @classmethod
    def read(cls, path: Path) -> Model:
        """Return the model of a file.

        Raises
        ------
        ConfigError
            If it is no model, or was changed since it was written.
        """
        try:
            content = json.loads(path.read_text())
            said = content.pop("model_id")
            content.pop("format")
            model = cls(**content)
        except OSError as error:
            raise ConfigError(
                f"cannot read the model {path}: {error.strerror}; `ampel-spark train` writes one"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError(f"{path} is no model that `ampel-spark train` wrote") from None
        if said != model.model_id:
            raise ConfigError(
                f"the model {path} says that it is {said[:12]}, and its content is"
                f" {model.model_id[:12]}: it was changed; train it again"
            )
        return model


def digest_of_text(text: str) -> str:
    """Return the SHA-256 of a model's trees: of all that stands before its parameters."""
    return hashlib.sha256(text.partition("\nparameters:")[0].encode()).hexdigest()


def importance(model: Model) -> list[tuple[str, float]]:
    """Return inputs with their shares of the gain of all splits, the largest first."""
    gains = np.asarray(_booster(model.text).feature_importance("gain"), float)
    shares = gains / gains.sum() if gains.sum() > 0 else gains
    pairs = zip(model.inputs, shares.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@functools.lru_cache(maxsize=16)
def _booster(text: str) -> Any:
    import lightgbm  # takes a second to import

    return lightgbm.Booster(model_str=text)
