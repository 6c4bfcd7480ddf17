"""What each unit and each filter of the package hangs on: no more than it runs, and no less.

`PINS` is the list. Where this fails, results of the units named become stale with every change in
the modules named: pin that if it is meant, else import less (`ampel_spark.trace`).
"""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from numba.core.registry import CPUDispatcher

from ampel_spark import trace
from ampel_spark.lightcurve import LightCurveBatch
from ampel_spark.t0 import selection
from ampel_spark.t0.filters import FILTERS
from ampel_spark.t1.assemble import batch_of
from ampel_spark.t2 import Refusal, Unit
from ampel_spark.t2.registry import UNITS, build
from ampel_spark.t2.runner import _with_ties
from ampel_spark.t2.trace import trace_of
from tests.t2.models import write_models
from tests.t2.test_units import CONFIG, CURVES, EVENT, batch, write_bump

#: By name: the unit and the parameters in which it differs from those of `tests.t2.test_units`.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in UNITS},
    "salt_fit by its plain twin": ("salt_fit", {"engine": "twin"}),
    "salt_fit by sncosmo": ("salt_fit", {"engine": "sncosmo"}),
    "salt_fit with a catalogue": (
        "salt_fit", {"redshift": {"catalog": "hosts.csv"}, "dust": {"ebv": 0.05}}),
}  # fmt: skip

_UNIT = "lightcurve t2.unit t2.units."
_LANGUAGE = (
    "expressions.expression expressions.kinds expressions.operations expressions.sql"
    " expressions.syntax expressions.values"
)
_FILES = "dialects packed snana tabular"
_MATCHING = (
    "sky.angles sky.catalogs sky.grid sky.healpix sky.matching sky.sources sky.store sky.tiles"
    f" {_FILES}"
)
_FITS = (
    "t2.fits.info t2.fits.models t2.fits.points t2.fits.quality t2.fits.results t2.fits.targets"
    " t2.fits.task"
)
_SALT = (
    "salt.dust salt.fitter salt.options salt.photometry salt.records salt.result salt.tables"
    " t2.fits.batch_fit t2.fits.peaks"
)
_KERNELS = (
    "compiled salt.batch salt.doubt salt.gather salt.kernel salt.maths salt.rounds"
    " salt.search salt.starts"
)
_TWIN = "salt.twin salt.twin.fit salt.twin.model salt.twin.object salt.twin.rounds salt.twin.starts"
_FILTER = (
    "t0.conditions t0.cuts t0.filters t0.galactic t0.history t0.judge t0.quantities t0.selection"
    f" {_LANGUAGE}"
)

#: Modules in the trace of each, below ampel_spark.
PINS = {
    "catalog_match": f"{_UNIT}catalog_match compiled {_MATCHING} sky.where {_LANGUAGE}",
    "light_curve_features": (
        f"{_UNIT}light_curve_features compiled features.compute features.definitions"
        " features.kernel features.probe features.twin"
    ),
    "classify": (
        f"{_UNIT}classify classifiers.model classifiers.priors classifiers.redshifts"
        " classifiers.settings classifiers.taxonomy"
    ),
    "lens_colours": f"{_UNIT}lens_colours t2.fits.info t2.fits.models t2.fits.points",
    "lens_evidence": (
        f"{_UNIT}lens_evidence {_FITS.removesuffix(' t2.fits.task')} compiled"
        " lensing.fitter lensing.kernel lensing.other salt.dust salt.kernel salt.maths salt.options"
        f" salt.photometry salt.tables t2.fits.neighbours {_MATCHING}"
    ),
    "event_match": (
        f"{_UNIT}event_match events.event events.matching events.shapes sky.angles sky.healpix"
        " sky.skymaps"
    ),
    "kilonovaness": f"{_UNIT}kilonovaness {_LANGUAGE}",
    "light_curve_summary": f"{_UNIT}light_curve_summary sky.angles",
    "milky_way_dust": f"{_UNIT}milky_way_dust sky.dust",
    "object_table": f"{_UNIT}object_table archive.reading.tables {_FILES}",
    "object_header": f"{_UNIT}object_header",
    "redshift_digest": f"{_UNIT}redshift_digest",
    "salt_fit": f"{_UNIT}salt_fit {_FITS} {_SALT} {_KERNELS}",
    "salt_fit by its plain twin": f"{_UNIT}salt_fit {_FITS} {_SALT} {_TWIN}",
    "salt_fit by sncosmo": f"{_UNIT}salt_fit {_FITS} t2.fits.fit_lc",
    "salt_fit with a catalogue": (
        f"{_UNIT}salt_fit {_FITS} {_SALT} {_KERNELS} t2.fits.neighbours {_MATCHING}"
    ),
    "template_fit": (
        f"{_UNIT}template_fit {_FITS.removesuffix(' t2.fits.task')} compiled salt.dust"
        " salt.photometry t2.fits.neighbours t2.fits.templates templates.fitter templates.kernel"
        f" templates.tables {_MATCHING}"
    ),
    "a filter": _FILTER,
    "a filter with stars": f"{_FILTER} t0.gaia sky.angles",
    "a filter with a release": (
        f"{_FILTER} archive.ids archive.reading.values archive.reading.ztf calibration.alerts"
        " calibration.apply calibration.cells calibration.release calibration.tables lightcurve"
    ),
}


def check(name: str, found: Sequence[str]) -> None:
    pinned = {f"ampel_spark.{module}" for module in PINS[name].split()}
    more, fewer = sorted(set(found) - pinned), sorted(pinned - set(found))
    assert not more, f"results of {name} become stale with changes in {', '.join(more)}"
    assert not fewer, f"results of {name} no longer hang on {', '.join(fewer)}: unpin them"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hosts.csv").write_text("ra,dec,z,type\n150,2,0.06,Sb\n")
    (tmp_path / "sample.csv").write_text(f"SN,z_hel\n{CURVES[0].name},0.06\n")
    (tmp_path / "events.json").write_text(EVENT)
    write_bump(tmp_path)
    write_models(tmp_path)
    return tmp_path


def built(name: str, folder: Path) -> Unit:
    spec, changes = CASES[name]
    return build(spec, CONFIG[spec] | changes, folder)


@pytest.mark.parametrize("name", CASES)
def test_the_modules_in_the_trace_of_a_unit_are_those_that_are_pinned(
    name: str, folder: Path
) -> None:
    check(name, [*trace_of(built(name, folder), name).content["code"]])


@pytest.mark.parametrize("name", FILTERS)
def test_the_modules_in_the_trace_of_a_filter_are_those_that_are_pinned(name: str) -> None:
    for case, stars, calibrates in (
        ("a filter", False, False),
        ("a filter with stars", True, False),
        ("a filter with a release", False, True),
    ):
        check(case, [*selection._code(FILTERS[name], stars, calibrates)])


def test_traces_are_no_wider_than_they_were_made() -> None:
    assert len(PINS["light_curve_summary"].split()) <= 8
    assert len(PINS["salt_fit"].split()) <= 34
    for pinned in PINS.values():
        modules = {module.partition(".")[0] for module in pinned.split()}
        assert not modules & {"commands", "cli", "errors", "problems", "document", "lake"}


@contextlib.contextmanager
def recorded() -> Iterator[set[str]]:
    """Give the modules of the package in which a function is called; caches are empty before."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ampel_spark."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
    files = {
        str(module.__file__): name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "ampel_spark"
    }
    called: set[Any] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        called.add(frame.f_code)

    seen: set[str] = set()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        for module in list(sys.modules.values()):  # what was imported meanwhile
            name = getattr(module, "__name__", "")
            if name.startswith("ampel_spark."):
                files[str(module.__file__)] = name
        # The body of a module runs on import, and decides nothing by itself.
        seen |= {
            files[c.co_filename] for c in called if c.co_filename in files and c.co_name[0] != "<"
        }


def compiled_modules(function: Any) -> set[str]:
    """Return the modules of a compiled function and of those that it calls."""
    found, todo, done = set(), [function], set()
    while todo:
        plain = todo.pop().py_func
        if plain not in done:
            done.add(plain)
            found.add(plain.__module__)
            names = [plain.__globals__.get(name) for name in plain.__code__.co_names]
            todo += [value for value in names if isinstance(value, CPUDispatcher)]
    return found


def run(unit: Unit, light_curves: LightCurveBatch) -> None:
    """Call all of a unit that its results come from, both by batches and one by one."""
    unit.output_columns()
    unit.files()
    unit.inputs(light_curves)
    if type(unit).process_batch is not Unit.process_batch:
        unit.process_batch(light_curves)
    if type(unit).process is not Unit.process:
        with contextlib.suppress(Refusal):
            unit.process(next(iter(light_curves)))


def executed(name: str, folder: Path) -> set[str]:
    unit, rows = built(name, folder), batch()
    light_curves = _with_ties(batch_of(rows), rows)
    run(unit, light_curves)  # so that nothing is compiled while calls are recorded
    with recorded() as seen:
        run(unit, light_curves)
    if "ampel_spark.sky.matching" in seen:
        from ampel_spark.sky import grid

        seen |= compiled_modules(grid.build) | compiled_modules(grid.search)
    if "ampel_spark.salt.fitter" in seen and "twin" not in name:
        from ampel_spark.salt import batch as kernels

        seen |= compiled_modules(kernels.fit_range) | compiled_modules(kernels.predict_range)
    return seen


def with_another_number(source: str) -> str:
    """Return a module's code with one number changed; with a new one where it has none."""
    tree = trace._bare(ast.parse(source))
    for node in ast.walk(tree):
        value: Any = getattr(node, "value", None)
        if isinstance(node, ast.Constant) and type(value) in (int, float):
            node.value = -value or 1
            return ast.unparse(tree)
    return source + "\nNUMBER = 1\n"


@pytest.mark.parametrize("name", CASES)
def test_a_number_changed_in_any_module_that_a_unit_runs_is_another_trace(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = executed(name, folder)
    assert {"ampel_spark.lightcurve", f"ampel_spark.t2.units.{CASES[name][0]}"} <= modules
    unit = built(name, folder)
    before = trace_of(unit, name).trace_id
    unseen = []
    for module in sorted(modules - {*trace.UNTRACED}):
        with monkeypatch.context() as changed:
            read = trace._source
            changed.setattr(
                trace, "_source",
                lambda spec, read=read, module=module: (
                    with_another_number(read(spec)) if spec.name == module else read(spec)
                ),
            )  # fmt: skip
            if trace_of(unit, name).trace_id == before:
                unseen.append(module)
    assert unseen == [], f"{name} runs these, and its trace does not see them change"


def test_the_words_of_an_error_are_in_no_trace() -> None:
    before = (
        "from ampel_spark.errors import ConfigError\n"
        "def check(a):\n    if a > 1:\n        raise ConfigError(f'{a} is above 1')\n"
    )
    assert trace._digest(before) == trace._digest(before.replace("is above 1", "is too large"))
    assert trace._digest(before) != trace._digest(before.replace("a > 1", "a > 2"))
    # the words of a refusal are in the result
    refused = before.replace("ConfigError", "Refusal")
    assert trace._digest(refused) != trace._digest(refused.replace("above", "over"))
