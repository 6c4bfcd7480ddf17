"""How good probabilities are: areas under curves, recalls, calibration, efficiency and purity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["area_under_curve", "confusion", "efficiency_purity", "reliability", "summary"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def area_under_curve(positive: NDArray[np.bool_], score: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error; NaN if one side is empty.

    The error is that of Hanley and McNeil (1982, doi:10.1148/radiology.143.1.7063747).

    Examples
    --------
    >>> area_under_curve(np.array([True, False, True, False]), np.array([0.9, 0.1, 0.4, 0.4]))[0]
    0.875
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan"), float("nan")
    _, back, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[back]
    area = float((ranks[positive].sum() - n * (n + 1) / 2.0) / (n * m))
    one, two = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    variance = area * (1 - area) + (n - 1) * (one - area**2) + (m - 1) * (two - area**2)
    return area, float(np.sqrt(variance / (n * m)))


def confusion(labels: Ints, winners: Ints, classes: Sequence[int]) -> Ints:
    """Return how many objects of each class (row) were given each class (column)."""
    rows = [[int(((labels == a) & (winners == b)).sum()) for b in classes] for a in classes]
    return np.array(rows, np.int64).reshape(len(classes), len(classes))


def reliability(right: NDArray[np.bool_], probability: Floats, bins: int = 10) -> dict[str, Any]:
    """Return how often what has a probability is right, by bins, and the mean distance of both."""
    place = np.clip((probability * bins).astype(int), 0, bins - 1)
    rows = [
        {"from": i / bins, "n": int((place == i).sum()),
         "said": float(probability[place == i].mean()), "is": float(right[place == i].mean())}
        for i in range(bins) if (place == i).any()
    ]  # fmt: skip
    error = sum(row["n"] * abs(row["said"] - row["is"]) for row in rows) / max(right.size, 1)
    return {"bins": rows, "expected_error": float(error)}


def efficiency_purity(
    positive: NDArray[np.bool_],
    probability: Floats,
    groups: Mapping[str, NDArray[np.bool_]],
    thresholds: Sequence[float] = (0.5, 0.9),
) -> list[dict[str, Any]]:
    """Return which share of a class is found, and which share of what is found is of it.

    Parameters
    ----------
    positive : ndarray of bool with shape (M,)
    probability : ndarray with shape (M,)
    groups : mapping of str to ndarray of bool
        Rows to look at, as of states some days after the first detection.
    thresholds : sequence of float
    """
    rows = []
    for name, mine in groups.items():
        row: dict[str, Any] = {"states": name, "n": int(mine.sum())}
        for limit in thresholds:
            taken = mine & (probability > limit)
            hits = int((taken & positive).sum())
            row[f"efficiency>{limit:g}"] = hits / max(int((mine & positive).sum()), 1)
            row[f"purity>{limit:g}"] = hits / int(taken.sum()) if taken.any() else None
        rows.append(row)
    return rows


def summary(labels: Ints, probabilities: Floats, classes: Sequence[int]) -> dict[str, Any]:
    """Return counts, balanced accuracy, macro F1, log-loss, and the area under curve by class."""
    order = np.asarray(classes)
    winners = order[probabilities.argmax(axis=1)] if labels.size else labels
    table = confusion(labels, winners, classes)
    there = table.sum(axis=1) > 0
    hits, actual, given = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    f1 = 2.0 * hits / np.maximum(actual + given, 1)
    losses = [
        -np.log(np.clip(probabilities[labels == c, i], 1e-15, 1.0)).mean()
        for i, c in enumerate(classes)
        if (labels == c).any()
    ]
    best = probabilities.max(axis=1) if labels.size else np.zeros(0)
    return {
        "n": int(labels.size),
        "balanced_accuracy": float((hits[there] / actual[there]).mean()) if there.any() else None,
        "macro_f1": float(f1[there].mean()) if there.any() else None,
        "balanced_log_loss": float(np.mean(losses)) if losses else None,
        "auc": {str(c): area_under_curve(labels == c, probabilities[:, i])[0]
                for i, c in enumerate(classes)},
        "confusion": table.tolist(),
        "reliability": reliability(winners == labels, best),
    }  # fmt: skip
