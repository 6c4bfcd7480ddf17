"""SN Ia against SN II on ELAsTiCC's stream with truth: five folds by object, beside the broker.

    python benchmarks/elasticc.py alerts.parquet [--rounds 300] [--forced]

The file has an alert a row, as Fink exported them (``diaSource, prvDiaSources, diaObject`` and the
truth). A state is what one alert shows. A model that judges an object has not seen it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ampel_spark.classifiers.metrics import area_under_curve
from ampel_spark.classifiers.training import fold_of, train
from ampel_spark.features import FeatureSet, compute

BANDS = ("lsstu", "lsstg", "lsstr", "lssti", "lsstz", "lssty")
LABELS = {111: 2222, 113: 2224}
MAGNITUDES = "ugrizY"
HOST = ("snsep", "sqradius", "ellipticity", *(f"mag_{b}" for b in MAGNITUDES))
PHOTO_Z = ("zphot", "zphot_err", *(f"zphot_q{q:03d}" for q in range(0, 101, 10)))


def main() -> None:
    """Print the areas under the curve, with standard errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--forced", action="store_true", help="forced fluxes too")
    args = parser.parse_args()
    table = pq.read_table(args.file)
    started = time.perf_counter()
    features, values = features_of(table, args.forced)
    seconds = time.perf_counter() - started
    print(f"{table.num_rows} states, {table.num_rows / seconds:.0f} a second, reading included")
    labels = np.array([LABELS[c] for c in table["classId"].to_pylist()])
    objects = table["SNID"].to_numpy()
    names = [f.name for f in features.features()]
    counts = values[:, names.index("ndet")]
    kept = [i for i, f in enumerate(features.features()) if f.role == "input"]
    columns = {names[i]: values[:, i] for i in kept}
    host = host_columns(table, HOST)
    plain = columns | host | host_colours(host)
    photo = host_columns(table, PHOTO_Z)
    with_z = plain | photo | with_redshift(columns, photo["hostgal_zphot"])
    folds = fold_of(objects)
    scores = {
        "Fink, SuperNNova": table["snn_snia_vs_nonia"].to_numpy(),
        "Fink, random forest": table["rf_snia_vs_nonia"].to_numpy(),
        "without photo-z": cross_validated(plain, labels, objects, folds, args.rounds),
        "with photo-z": cross_validated(with_z, labels, objects, folds, args.rounds),
    }
    ia = labels == 2222
    print(f"{'':22}" + "".join(f"{f'>= {n}':>18}" for n in (1, 5, 10, 20)))
    for name, score in scores.items():
        cells = [area_under_curve(ia[counts >= n], score[counts >= n]) for n in (1, 5, 10, 20)]
        print(f"{name:22}" + "".join(f"{a:9.4f} +- {e:.4f}" for a, e in cells))
    print(f"{'states':22}" + "".join(f"{int((counts >= n).sum()):18d}" for n in (1, 5, 10, 20)))


def features_of(table: pa.Table, forced: bool) -> tuple[FeatureSet, np.ndarray[Any, Any]]:
    """Return the features of all alerts."""
    rows: list[tuple[float, float, float, str, bool]] = []
    offsets = [0]
    sources = (table["diaSource"].to_pylist(), table["prvDiaSources"].to_pylist())
    more = table["prvDiaForcedSources"].to_pylist() if forced else [None] * table.num_rows
    for now, before, others in zip(*sources, more, strict=True):
        points = [(p, False) for p in [*(before or []), now]] + [(p, True) for p in others or []]
        mine = {
            (p["midPointTai"], p["filterName"], is_forced): (
                p["midPointTai"], p["psFlux"], p["psFluxErr"], f"lsst{p['filterName'].lower()}",
                is_forced,
            )
            for p, is_forced in points
        }  # fmt: skip
        rows += sorted(mine.values())
        offsets.append(len(rows))
    jd, flux, err, band, is_forced = (np.array(c) for c in zip(*rows, strict=True))
    features = FeatureSet(BANDS)
    place = np.array([BANDS.index(b) for b in band], np.int64)
    none = np.zeros(jd.size, bool)
    values = compute(
        features, np.array(offsets), jd, flux, err, np.full(jd.size, 27.5), place, none, is_forced
    )
    return features, values


def host_columns(table: pa.Table, names: tuple[str, ...]) -> dict[str, Any]:
    """Return columns of both hosts; NaN for none."""
    struct = table["diaObject"].combine_chunks()
    found: dict[str, Any] = {}
    for name in [f"{host}_{n}" for host in ("hostgal", "hostgal2") for n in names] + ["mwebv"]:
        values = struct.field(name).to_numpy(zero_copy_only=False).astype(float)
        found[name] = np.where((values <= -8.9) | (values >= 900.0), np.nan, values)
    return found


def host_colours(host: dict[str, Any]) -> dict[str, Any]:
    """Return colours of the hosts."""
    return {
        f"{h}_{one}_{two}": host[f"{h}_mag_{one}"] - host[f"{h}_mag_{two}"]
        for h in ("hostgal", "hostgal2")
        for one, two in itertools.pairwise(MAGNITUDES)
    }


def with_redshift(columns: dict[str, Any], z: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return absolute magnitudes and times in the rest frame."""
    from ampel_spark.classifiers.redshifts import distance_modulus

    modulus = np.where(z > 0, distance_modulus(np.where(z > 0, z, 1.0)), np.nan)
    found = {f"abs_{n}": v - modulus for n, v in columns.items() if n.startswith("peak_mag")}
    found["abs_mag_min"] = columns["mag_min"] - modulus
    times = ("t_lc", "t_rise", "t_fall", *(n for n in columns if n.startswith(("width", "t_peak"))))
    return found | {f"rest_{n}": columns[n] / (1.0 + z) for n in times}


def cross_validated(
    columns: dict[str, Any], labels: Any, objects: Any, folds: Any, rounds: int
) -> np.ndarray[Any, Any]:
    """Return the probability of SN Ia by models of the other folds."""
    matrix = np.stack([*columns.values()], axis=1)
    states = [f"{i:09d}" for i in range(labels.size)]
    score = np.empty(labels.size)
    for fold in np.unique(folds):
        out, rest = folds == fold, folds != fold
        model = train(
            "elasticc", [*columns], matrix[rest], labels[rest],
            [s for s, r in zip(states, rest, strict=True) if r], objects[rest],
            classes=[2224, 2222], rounds=rounds,
            parameters={"learning_rate": 0.05, "num_leaves": 15, "feature_fraction": 0.3,
                        "bagging_fraction": 0.8, "bagging_freq": 1},
        )  # fmt: skip
        score[out] = model.predict(matrix[out])[:, 1]
    return score


if __name__ == "__main__":
    main()
