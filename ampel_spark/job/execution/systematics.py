"""Systematics: a job and its variations, and by how much numbers moved.

Each variation is a run on the inputs of the nominal run. Those that change the calibration or
parameters of units go through one pass (`ampel_spark.job.execution.grid`), the others run one after
the other; what a variation leaves as it was is used again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.job.comparison.shifts import Shift, changed_minimum, shift_of
from ampel_spark.job.comparison.sides import Side, common_ids, frame_of, links_of
from ampel_spark.job.comparison.systematics import (
    LARGEST,
    MU,
    Grid,
    Varied,
    covariance,
    distances,
    factors,
    render_systematics,
    write_covariance,
    write_factors,
)
from ampel_spark.job.configuration.load import load_recorded
from ampel_spark.job.configuration.model import ResolvedJob, SystematicsEntry, VariationEntry
from ampel_spark.job.execution.inputs import Inputs, recorded
from ampel_spark.lake.commits import insert
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Run, find_run
from ampel_spark.lake.tables import TABLES
from ampel_spark.t3.cosmology import DistanceSample, fit_flat_lcdm
from ampel_spark.t3.pages import write_page

if TYPE_CHECKING:
    from ampel_spark.job.execution.run import Outcome
    from ampel_spark.lake.lake import Lake

__all__ = ["run_systematics", "write_results"]

Array = npt.NDArray[Any]


def run_systematics(
    job: ResolvedJob,
    lake: Path,
    *,
    inputs: Inputs | None = None,
    out: Callable[[str], None] = print,
) -> Grid:
    """Run a job and its variations, and write ``systematics``.

    Parameters
    ----------
    job : ResolvedJob
        With ``systematics``.
    lake, inputs, out
        As for `ampel_spark.job.execution.run.run_job`.

    Raises
    ------
    ConfigError
        If the job names no variations, or one of them cannot be run: before anything starts.
    """
    from ampel_spark.job.execution.run import open_lake, run_job

    entry = job.systematics
    if entry is None:
        raise ConfigError(f"job {job.name} names no variations: give it a section 'systematics'")
    if job.states.mode != "latest":
        raise ConfigError(
            "systematics need one state an object (t1: {states: latest}), not "
            f"states {job.states.mode}"
        )
    for variation in entry.variations:
        job.varied(variation.settings, variation.calibration)
    outcome = run_job(job, lake, inputs=inputs, out=out)
    parent = find_run(lake, outcome.run_id)
    stocks, names, nominal, errors = _nominal(lake, parent, entry)
    if not len(stocks):
        raise LakeError(
            f"selection {entry.selection!r} of run {outcome.run_id} has no candidates: "
            "there is nothing to vary"
        )
    done, code = [], outcome.code
    for variation, (result, values) in zip(
        entry.variations, _varied(parent, entry, lake, stocks, out), strict=True
    ):
        deltas = {k: values[k] - nominal[k] for k in nominal if k in errors}
        done.append(
            Varied(
                variation.name,
                result.run_id,
                ", ".join(filter(None, [variation.calibration, *variation.settings])),
                variation.weight,
                values,
                changed_minimum(deltas, errors),
                {k: (t["computed"], t["wanted"]) for k, t in result.counts.t2.items()},
            )
        )
        code = max(code, result.code)
        out(f"systematics: {_summary(nominal, done[-1], entry)}")
    grid = Grid(outcome.run_id, names, stocks, nominal, errors, tuple(done), code)
    if entry.cosmology is not None:
        grid = _with_cosmology(grid, lake, parent, entry)
        for name, fit in grid.cosmology.items():
            out(f"systematics: flat LCDM, {name}: {fit}")
    _write(open_lake(job.name, lake), grid, entry)
    return grid


def _varied(
    parent: Run,
    entry: SystematicsEntry,
    lake: Path,
    stocks: Array,
    out: Callable[[str], None],
) -> list[tuple[Outcome, dict[str, Array]]]:
    """Run the variations, and return how each ended, with the values of the sample.

    Those that go through one pass are run together, the others one after the other.
    """
    from ampel_spark.job.execution.grid import ResultSample, fits, run_grid, warnings_alone
    from ampel_spark.job.execution.run import run_job

    nominal = load_recorded(parent, lake=lake)
    jobs = [_job_of(parent, variation, lake) for variation in entry.variations]
    alike = [i for i, job in enumerate(jobs) if fits(nominal, job)]
    found: dict[int, tuple[Outcome, dict[str, Array]]] = {}
    columns = ["status", *sorted(_needed(entry))]
    sample = ResultSample(
        parent.selections[entry.selection]["channel"], entry.unit, stocks, columns
    )
    out(f"systematics: {len(alike)} of {len(jobs)} variations in one pass")
    made = run_grid(parent, [jobs[i] for i in alike], lake, sample, out=out)
    for i, (outcome, table) in zip(alike, made, strict=True):
        found[i] = outcome, _values_in(table, entry, stocks)
    for i, job in enumerate(jobs):
        if i not in found:
            out(f"systematics: {entry.variations[i].name}, by itself")
            outcome = run_job(job, lake, inputs=recorded(parent), out=warnings_alone(out))
            values, _ = _values(lake, find_run(lake, outcome.run_id), entry, stocks)
            found[i] = outcome, values
    return [found[i] for i in range(len(jobs))]


def _job_of(parent: Run, variation: VariationEntry, lake: Path) -> ResolvedJob:
    """Return the job of a variation: that of the run, without what it writes beside the lake."""
    job = load_recorded(parent, variation.settings, variation.calibration, lake)
    plain = tuple(dataclasses.replace(s, export=()) for s in job.selections)
    return dataclasses.replace(job, report=None, systematics=None, selections=plain, samples=())


def write_results(lake: Path, grid: Grid, page: Path | None = None) -> list[Path]:
    """Write the page of a grid and, where it has distances, their covariance; return the paths.

    The covariance of up to `LARGEST` distances is written out; of more, its factors are.
    """
    paths = [page or lake / "reports" / f"systematics-{grid.run_id}.html"]
    scaled = None
    if MU in grid.nominal:
        scaled, rows = factors(grid)
        folder = lake / "exports" / grid.run_id
        if len(rows) <= LARGEST:
            paths.append(folder / "systematics_covariance.txt")
            write_covariance(paths[-1], covariance(scaled))
        else:
            paths.append(folder / "systematics_factors.npz")
            write_factors(paths[-1], grid, scaled, rows)
        paths.append(folder / "systematics_objects.csv")
        order = pd.DataFrame({"name": grid.names[rows], "stock": grid.stocks[rows]})
        order["mu"] = grid.nominal[MU][rows]
        if grid.redshifts is not None:
            order["z"] = grid.redshifts[rows]
        write_page(paths[-1], order.to_csv(index=False))
    if grid.cosmology:
        paths.append(lake / "exports" / grid.run_id / "cosmology.json")
        fits = {
            name: {
                "om0": fit.om0, "om0_low": fit.low, "om0_high": fit.high, **fit.values,
                "errors": dict(fit.errors), "chisq": fit.chisq, "ndof": fit.ndof,
            }
            for name, fit in grid.cosmology.items()
        }  # fmt: skip
        write_page(paths[-1], json.dumps(fits, indent=1) + "\n")
    write_page(paths[0], render_systematics(grid, scaled))
    return paths


def _with_cosmology(grid: Grid, lake: Path, run: Run, entry: SystematicsEntry) -> Grid:
    """Return a grid with fits of flat LCDM to its distances: without and with the shifts."""
    assert entry.cosmology is not None
    assert entry.distance is not None
    sample, z = _sample(grid, lake, run, entry)
    settings: dict[str, Any] = entry.cosmology.model_dump()
    settings |= {"alpha": entry.distance.alpha, "beta": entry.distance.beta}
    fits = {
        "statistics alone": fit_flat_lcdm(DistanceSample.without_shifts(sample), **settings),
        "with systematics": fit_flat_lcdm(sample, **settings),
    }
    return dataclasses.replace(grid, cosmology=fits, redshifts=z)


def _sample(
    grid: Grid, lake: Path, run: Run, entry: SystematicsEntry
) -> tuple[DistanceSample, Array]:
    """Return what a cosmology fit takes of those with distances everywhere, and all redshifts."""
    column = _columns_of(lake, run, entry, grid.stocks, ("z", "fitted", "covariance"))
    z = np.array([np.nan if v is None else v for v in column["z"]], float)
    names = ("x0", "x1", "c")
    nominal = np.column_stack([grid.nominal[name] for name in names])
    covariance = np.zeros((len(z), 3, 3))
    for i, (fitted, flat) in enumerate(zip(column["fitted"], column["covariance"], strict=True)):
        if fitted is None or flat is None:
            covariance[i] = np.nan
            continue
        square = np.reshape(flat, (len(fitted), len(fitted)))
        at = [(k, fitted.index(name)) for k, name in enumerate(names) if name in fitted]
        mine, theirs = ([pair[side] for pair in at] for side in (0, 1))
        covariance[i][np.ix_(mine, mine)] = square[np.ix_(theirs, theirs)]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.column_stack([-2.5 / np.log(10.0) / nominal[:, 0], np.ones((len(z), 2))])
        values = nominal.copy()
        values[:, 0] = -2.5 * np.log10(nominal[:, 0])
        moved = np.array(
            [
                v.weight
                * np.column_stack(
                    [
                        -2.5 * np.log10(v.values["x0"]) - values[:, 0],
                        *(v.values[name] - grid.nominal[name] for name in names[1:]),
                    ]
                )
                for v in grid.variations
            ]
        )
    covariance *= slope[:, :, None] * slope[:, None, :]
    good = np.isfinite(z) & (z > 0) & np.isfinite(values).all(axis=1)
    good &= np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(moved).all(axis=(0, 2))
    return DistanceSample(z[good], values[good], covariance[good], moved[:, good]), z


def _columns_of(
    lake: Path, run: Run, entry: SystematicsEntry, stocks: Array, names: Sequence[str]
) -> dict[str, list[Any]]:
    """Return columns of the results of a sample, by name; None where there is no result."""
    side, states = _side_of(lake, run, entry, stocks)
    results = side.results(entry.unit, [*names])
    there = states.notna().to_numpy()
    at = states[there].to_numpy().astype(np.int64)
    found: dict[str, list[Any]] = {}
    for name in names:
        column: list[Any] = [None] * len(stocks)
        for i, value in zip(
            np.flatnonzero(there), results.column(name, at).to_pylist(), strict=True
        ):
            column[i] = value
        found[name] = column
    return found


def _summary(nominal: Mapping[str, Array], varied: Varied, entry: SystematicsEntry) -> str:
    """Return a line on one variation."""
    parts = []
    for name in [*entry.columns, *([MU] if entry.distance else [])]:
        shift: Shift = shift_of(nominal[name], varied.values[name])
        parts.append(f"Δ{name} {shift.median:+.4g} ± {shift.robust_sd:.2g}")
    work = ", ".join(f"{unit} {n} of {of}" for unit, (n, of) in varied.computed.items())
    return (
        f"{varied.name}: {', '.join(parts)} (medians, robust widths); "
        f"{int(varied.hops.sum())} changed minimum; computed: {work}"
    )


def _nominal(
    lake: Path, run: Run, entry: SystematicsEntry
) -> tuple[Array, Array, dict[str, Array], dict[str, Array]]:
    """Return the sample, by stock, with its values and errors."""
    chosen = read(
        lake,
        "candidates",
        ["stock", "name"],
        (pc.field("run_id") == run.run_id) & (pc.field("selection") == entry.selection),
    )
    stocks, first = np.unique(chosen["stock"].to_numpy(), return_index=True)
    names = np.array(chosen["name"].to_pylist(), object)[first]
    return stocks, names, *_values(lake, run, entry, stocks)


def _side_of(
    lake: Path, run: Run, entry: SystematicsEntry, stocks: Array
) -> tuple[Side, pd.Series]:
    """Return a run as compared, and the number of the state of each object of a sample."""
    channel = run.selections[entry.selection]["channel"]
    links = links_of(lake, run.run_id)
    links = links.filter(pc.equal(links["channel"], channel))
    ids = common_ids(links)
    frame = frame_of(links, ids)
    states = pd.Series(frame["state"].to_numpy(), index=frame["stock"].to_numpy())
    return Side(lake, run, ids, frame), states[~states.index.duplicated()].reindex(stocks)


def _values(
    lake: Path, run: Run, entry: SystematicsEntry, stocks: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return values and errors of the objects of a sample, by parameter; NaN where there is none.

    A result whose status is not 0 has none.
    """
    side, states = _side_of(lake, run, entry, stocks)
    there = states.notna().to_numpy()
    errors = sorted({f"{name}_err" for name in _needed(entry)} & {*side.columns(entry.unit)})
    results = side.results(entry.unit, ["status", *sorted(_needed(entry)), *errors])
    at = states[there].to_numpy().astype(np.int64)
    names = ["status", *sorted(_needed(entry)), *errors]
    table = pa.table({name: results.column(name, at) for name in names})
    table = table.append_column("stock", pa.array(stocks[there]))
    sigma = _columns(table, errors, stocks)
    return _values_in(table, entry, stocks), {name[:-4]: sigma[name] for name in errors}


def _needed(entry: SystematicsEntry) -> set[str]:
    """Return the columns of results that shifts are of."""
    return {*entry.columns, *(("x0", "x1", "c") if entry.distance else ())}


def _values_in(table: pa.Table, entry: SystematicsEntry, stocks: Array) -> dict[str, Array]:
    """Return the values of a sample, and its distances, of results by ``stock``."""
    values = _columns(table, sorted(_needed(entry)), stocks)
    if entry.distance is not None:
        tripp = entry.distance
        values[MU] = distances(values["x0"], values["x1"], values["c"], tripp.alpha, tripp.beta)
    return values


def _columns(table: pa.Table, names: Sequence[str], stocks: Array) -> dict[str, Array]:
    """Return columns of results for a sample, sorted; NaN where there is none that is good."""
    table = table.filter(pc.equal(table["status"], 0))
    at = np.searchsorted(stocks, table["stock"].to_numpy())
    found = {}
    for name in names:
        found[name] = np.full(len(stocks), np.nan)
        column = pc.cast(table[name], pa.float64())
        found[name][at] = column.to_numpy(zero_copy_only=False)
    return found


def _write(lake: Lake, grid: Grid, entry: SystematicsEntry) -> None:
    """Write the table, one row per object, variation and parameter."""
    table = TABLES["systematics"]
    names: Sequence[str] = sorted(grid.nominal)
    n = len(grid.stocks)
    frames = []
    for varied in grid.variations:
        for name in names:
            before = grid.nominal[name]
            frames.append(
                pd.DataFrame(
                    {
                        "variation": varied.name,
                        "variation_run_id": varied.run_id,
                        "weight": varied.weight,
                        "selection": entry.selection,
                        "stock": grid.stocks,
                        "name": grid.names,
                        "parameter": name,
                        "nominal": before,
                        "error": grid.errors.get(name, np.full(n, np.nan)),
                        "shift": varied.values[name] - before,
                        "changed_minimum": varied.hops,
                        "run_id": grid.run_id,
                    }
                )
            )
    rows = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    insert(lake, table, rows, {"run_id": grid.run_id})
