"""The steps of a job, built from their entries: filters, units in order of ties, selections.

Each function notes what is wrong as problems of the document, and returns what it could build: with
any problem noted, nothing runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ampel_spark.classes import with_paths
from ampel_spark.document import Document
from ampel_spark.errors import AmpelSparkError, ConfigError, UnitError, nearest
from ampel_spark.job.configuration.catalogs import (
    catalog_config,
    named_catalogs,
    paths_in,
    replaced,
    unknown_catalog,
)
from ampel_spark.job.configuration.model import (
    CatalogSource,
    FilterEntry,
    FilterStep,
    Job,
    SampleEntry,
    SampleStep,
    SelectionEntry,
    SelectionStep,
    UnitEntry,
    UnitStep,
    VariationEntry,
)
from ampel_spark.job.configuration.variations import expanded
from ampel_spark.lake.tables import TABLES
from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.problems import entries, note_refusals
from ampel_spark.t1.shown import ALERT, alert_types
from ampel_spark.t2.registry import UNITS, find_unit, placed
from ampel_spark.t3.registry import T3_UNITS, find_t3, t3_trace
from ampel_spark.t3.sample import label_type

if TYPE_CHECKING:
    from ampel_spark.archive.reading.surveys import Survey
    from ampel_spark.expressions import Expression
    from ampel_spark.t0.filters import Filter
    from ampel_spark.t2.unit import Unit

__all__ = [
    "OUTCOME",
    "STATE_COLUMNS",
    "Own",
    "build_filters",
    "build_samples",
    "build_selections",
    "build_units",
    "check_systematics",
    "result_types",
    "sample_types",
]


@dataclass(frozen=True)
class Own:
    """What becomes of a job's own code: whether it may run, and who hears of it before."""

    code: bool = True
    before: Callable[[Sequence[str]], None] | None = None

    def announce(self, specs: Sequence[str]) -> None:
        """Name the code that is about to run."""
        if self.before is not None and self.code and specs:
            self.before(list(dict.fromkeys(specs)))


#: What expressions may name beside the results of units, with Spark types.
STATE_COLUMNS = {
    "channel": "string",
    "stock": "bigint",
    "state_id": "string",
    "name": "string",
    "n_detections": "int",
    "n_upper_limits": "int",
    "jd_first": "double",
    "jd_last": "double",
}
#: What every unit's results say of how they ended, with Spark types.
OUTCOME = {"status": "int", "message": "string", "duration_ms": "double"}


def build_filters(
    document: Document,
    base: Path,
    catalogs: Mapping[str, CatalogSource],
    lake: Path,
    own: Own,
    survey: Survey | None,
) -> list[FilterStep]:
    """Return the filter of each channel, in the order of the job; `lake` is that of catalogues."""
    mine = _own_of(document, "t0", "filter")
    own.announce(mine)
    steps: list[FilterStep] = []
    channels = _channel_names(document)
    for i, entry in entries(document, "t0", FilterEntry):
        where: list[str | int] = ["t0", i]
        _check_channels(document, [*where, "channel"], [entry.channel], channels)
        if any(step.channel == entry.channel for step in steps):
            document.problem([*where, "channel"], f"a second filter of channel {entry.channel!r}")
        if entry.filter in mine and not own.code:
            continue
        built = _build_filter(document, where, entry, survey, base)
        if built is None:
            continue
        gaia = entry.gaia
        if gaia is not None and gaia not in named_catalogs(document):
            document.problem([*where, "gaia"], unknown_catalog(document, gaia, lake))
        elif gaia is not None and not any(cut.needs_stars for cut in built.cuts()):
            document.problem(
                [*where, "gaia"],
                f"the filter {entry.filter} has no Gaia veto here: leave the key out",
            )
        if gaia is not None and gaia in catalogs and catalogs[gaia].off:
            gaia = None
        steps.append(
            FilterStep(
                entry.channel,
                entry.filter,
                built,
                gaia,
                entry.on_stock_match,
                entry.history,
                entry.photometry,
            )
        )
    _check_filters(document)
    return steps


def _check_filters(document: Document) -> None:
    judged = {entry.get("channel") for entry in _raw(document, "t0")}
    for i, channel in enumerate(_raw(document, "channel")):
        if judged and channel.get("name") and channel["name"] not in judged:
            document.problem(["channel", i], f"channel {channel['name']!r} has no filter in t0")


def _build_filter(
    document: Document,
    where: list[str | int],
    entry: FilterEntry,
    survey: Survey | None,
    base: Path,
) -> Filter | None:
    from ampel_spark.t0.filters import FILTERS, find_filter, ready
    from ampel_spark.t0.quantities import OwnQuantities

    if entry.filter not in FILTERS and ":" not in entry.filter:
        known = nearest(entry.filter, FILTERS)
        document.problem(
            [*where, "filter"],
            f"unknown filter, value {entry.filter!r}{known}",
        )
        return None
    try:
        model = find_filter(entry.filter, base)
    except AmpelSparkError as error:
        document.problem([*where, "filter"], str(error))
        return None
    try:
        own = None
        if survey is not None:
            types = {name: column.type for name, column in survey.columns.alerts.items()}
            own = OwnQuantities(survey.label, types)
        built = model.model_validate(entry.config, context={"own": own})
        return ready(built, entry.filter, base)
    except ValidationError as error:
        note_refusals(document, error, model, [*where, "config"], "parameter")
    except AmpelSparkError as error:
        document.problem([*where, "config"], str(error))
    return None


def _own_of(document: Document, section: str, key: str) -> list[str]:
    """Return what entries name of one's own code: a file or a module, with a class."""
    specs = (str(entry.get(key, "")) for entry in _raw(document, section))
    return [spec for spec in specs if ":" in spec]


def build_units(
    document: Document,
    base: Path,
    catalogs: Mapping[str, CatalogSource],
    lake: Path,
    own: Own,
    survey: Survey | None,
) -> list[UnitStep]:
    """Return the units, each after those it is tied to, else in the order of the job."""
    mine = _own_of(document, "t2", "unit")
    own.announce(mine)
    steps: dict[str, UnitStep] = {}
    places: dict[str, int] = {}
    channels = _channel_names(document)
    complete = True
    refused: list[tuple[int, UnitStep]] = []
    for i, entry in entries(document, "t2", UnitEntry):
        _check_channels(document, ["t2", i, "channel"], entry.channel or (), channels)
        if entry.unit in mine and not own.code:
            complete = False
            continue
        model = _class_of(document, ["t2", i, "unit"], entry, base)
        if model is None:
            complete = False
            continue
        step = _build_unit(document, ["t2", i], entry, model, base, catalogs, lake, survey)
        if step is None:
            complete = False
            rest = _rest_of(document, entry, model, catalogs)
            refused += [(i, rest)] if rest is not None else []
            continue
        if step.name == ALERT:
            document.problem(
                ["t2", i], f"{ALERT!r} is what selections call the alert: give it another 'name'"
            )
            continue
        if step.name in steps:
            document.problem(
                ["t2", i], f"a second unit named {step.name!r}: give it another 'name'"
            )
            continue
        steps[step.name], places[step.name] = step, i
    complete &= len(steps) == len(_raw(document, "t2"))
    for i, step in [*((places[name], step) for name, step in steps.items()), *refused]:
        _check_ties(document, i, step, steps, complete)
    try:
        TopologicalSorter({name: step.needs for name, step in steps.items()}).prepare()
    except CycleError as error:
        circle = " needs ".join(map(repr, reversed(error.args[1])))
        document.problem(["t2", places[error.args[1][0]]], f"ties go in a circle: {circle}")
        return list(steps.values())
    return _stable(steps)


def build_selections(
    document: Document, units: Sequence[UnitStep], survey: Survey | None
) -> list[SelectionStep]:
    """Return the selections, with their expressions parsed and checked."""
    steps: list[SelectionStep] = []
    channels = _channel_names(document)
    for i, entry in entries(document, "t3", SelectionEntry):
        where: list[str | int] = ["t3", i]
        if document.value([*where, "unit"]) is not None:
            continue
        _check_channels(document, [*where, "channel"], [entry.channel], channels)
        if any(step.name == entry.name for step in steps):
            document.problem(where, f"a second selection {entry.name!r}: give it another 'name'")
        channel = entry.channel if entry.channel in channels else None
        check = _Checker(document, units, channel, survey)
        select = check.expression([*where, "select"], entry.select, ("boolean",))
        rank = entry.rank and check.expression([*where, "rank"], entry.rank, ("number", "string"))
        columns = _columns(document, [*where, "columns"], entry, check)
        if select is not None:
            steps.append(
                SelectionStep(
                    entry.name, entry.channel, select, rank or None, columns, entry.limit,
                    entry.export,
                )
            )  # fmt: skip
    return steps


def build_samples(
    document: Document,
    base: Path,
    own: Own,
    units: Sequence[UnitStep],
    selections: Sequence[SelectionStep],
    survey: Survey | None,
) -> list[SampleStep]:
    """Return the units of T3, with what they read of their selections checked."""
    mine = _own_of(document, "t3", "unit")
    own.announce(mine)
    steps: list[SampleStep] = []
    by_name = {selection.name: selection for selection in selections}
    for i, entry in entries(document, "t3", SampleEntry):
        where: list[str | int] = ["t3", i]
        if document.value([*where, "unit"]) is None or (entry.unit in mine and not own.code):
            continue
        of = entry.of or (next(iter(by_name)) if len(by_name) == 1 else None)
        if of not in _selection_names(document):
            text = f"unknown selection of t3, value {of!r}{nearest(str(of), by_name)}"
            document.problem([*where, "of"], text if of else _which(by_name))
        step = _build_sample(document, where, entry, str(of), base)
        if step is None:
            continue
        if any(step.name == other.name for other in steps):
            document.problem(where, f"a second unit named {step.name!r}: give it another 'name'")
        elif step.name in by_name:
            document.problem(where, f"a selection is named {step.name!r}: give it another 'name'")
        if of in by_name:
            selection = by_name[str(of)]
            _check_reads(document, where, step, sample_types(selection, units, survey))
        steps.append(step)
    return steps


def sample_types(
    selection: SelectionStep, units: Iterable[UnitStep], survey: Survey | None
) -> dict[str, str]:
    """Return what a unit of T3 may name of a selection: its columns, and all that it may name."""
    mine = [unit for unit in units if selection.channel in unit.channels]
    return result_types(mine) | _labels(selection, mine, survey)


def _check_reads(
    document: Document, where: list[str | int], step: SampleStep, types: Mapping[str, str]
) -> None:
    """Note expressions of a unit of T3 that name what its selection does not have."""
    from ampel_spark.expressions import parse

    # of units that could not be built nobody knows the columns
    broken = _unit_names(document) - {name.partition(".")[0] for name in types if "." in name}
    for text in step.unit.reads():
        try:
            expression = parse(text)
            if not {name.partition(".")[0] for name in expression.columns} & broken:
                expression.check(types)
        except ConfigError as error:
            document.problem([*where, "config"], str(error))


def _named_types(units: Iterable[UnitStep], survey: Survey | None) -> dict[str, str]:
    """Return what an expression of T3 may name, with types."""
    own = {} if survey is None else survey.columns.alerts
    return result_types(units) | alert_types({name: column.type for name, column in own.items()})


def _labels(
    selection: SelectionStep, units: Iterable[UnitStep], survey: Survey | None
) -> dict[str, str]:
    """Return the columns of a selection with types; those that cannot be checked are left out."""
    known, found = _named_types(units, survey), {}
    for label, expression in selection.columns.items():
        with contextlib.suppress(ConfigError):
            name = expression.name
            kind = known.get(name, "") if name else label_type(expression.check(known))
            found[label] = kind or label_type(expression.check(known))
    return found


def _which(selections: Iterable[str]) -> str:
    return f"name a selection of t3, such as {', '.join(selections) or 'one that is to be written'}"


def _selection_names(document: Document) -> set[str]:
    """Return what the selections are called, right or wrong."""
    rows = (entry for entry in _raw(document, "t3") if "unit" not in entry)
    return {str(entry.get("name", "candidates")) for entry in rows}


def _build_sample(
    document: Document, where: list[str | int], entry: SampleEntry, of: str, base: Path
) -> SampleStep | None:
    try:
        model = find_t3(entry.unit, base)
    except AmpelSparkError as error:
        document.problem([*where, "unit"], str(error))
        return None
    try:
        unit = model.model_validate(entry.config)
        unit = with_paths(unit, lambda path: (base / path).absolute())
        t3_trace(unit, entry.unit)  # code that cannot be read, a file that is not there
    except ValidationError as error:
        note_refusals(document, error, model, [*where, "config"], "parameter")
        return None
    except AmpelSparkError as error:
        document.problem([*where, "config"], str(error))
        return None
    name = entry.name or _own_name(entry.unit)
    return SampleStep(name, entry.unit, of, unit, unit.model_dump(mode="json"))


def check_systematics(
    document: Document,
    job: Job | None,
    units: Sequence[UnitStep],
    selections: Sequence[SelectionStep],
    base: Path,
) -> None:
    """Note names in ``systematics`` that the job does not have, and sets that cannot be read.

    A unit or a selection that was refused may be the one meant: that has been noted.
    """
    if job is None or (entry := job.systematics) is None:
        return
    where = "systematics"
    chosen = {s.name for s in selections}
    written = [entry for entry in job.t3 if isinstance(entry, SelectionEntry)]
    if entry.selection not in chosen and len(selections) == len(written):
        known = nearest(entry.selection, chosen)
        document.problem(
            [where, "selection"], f"unknown selection of t3, value {entry.selection!r}{known}"
        )
    by_name = {unit.name: unit for unit in units}
    if entry.unit not in by_name:
        if len(units) == len(job.t2):
            known = nearest(entry.unit, by_name)
            document.problem([where, "unit"], f"unknown unit of t2, value {entry.unit!r}{known}")
        return
    columns = [c.name for c in by_name[entry.unit].columns if c.type == "double"]
    for i, column in enumerate(entry.columns):
        if column not in columns:
            known = nearest(column, columns)
            document.problem(
                [where, "columns", i], f"no number of {entry.unit}, value {column!r}{known}"
            )
    if entry.distance is not None and (lacking := sorted({"x0", "x1", "c"} - {*columns})):
        document.problem(
            [where, "distance"],
            f"{entry.unit} has no {', '.join(lacking)}: leave distances out (distance: null)",
        )
    _check_variations(document, entry.variations)
    for i, variation in enumerate(entry.variations):
        try:
            expanded((variation,), by_name[entry.unit], base)
        except ConfigError as error:
            document.problem([where, "variations", i], str(error))


def _check_variations(document: Document, variations: Sequence[VariationEntry]) -> None:
    seen = set()
    for i, variation in enumerate(variations):
        where: list[str | int] = ["systematics", "variations", i]
        if variation.name in seen:
            document.problem(where, f"a second variation named {variation.name!r}")
        seen.add(variation.name)
        sets = (variation.calibration, variation.models, variation.zero_points)
        if not variation.set and sets == (None, None, None):
            document.problem(
                where, f"variation {variation.name!r} changes nothing: give 'calibration' or 'set'"
            )


def result_types(units: Iterable[UnitStep]) -> dict[str, str]:
    """Return what an expression may name: columns of a state and ``unit.column``, with types."""
    types = dict(STATE_COLUMNS)
    for unit in units:
        types |= {f"{unit.name}.{name}": kind for name, kind in OUTCOME.items()}
        types |= {f"{unit.name}.{column.name}": column.type for column in unit.columns}
    return types


def _build_unit(
    document: Document,
    where: list[str | int],
    entry: UnitEntry,
    model: type[Unit],
    base: Path,
    catalogs: Mapping[str, CatalogSource],
    lake: Path,
    survey: Survey | None,
) -> UnitStep | None:
    place = [*where, "config"]
    config, used = catalog_config(model, entry.config, catalogs)
    lacking = _lacks_file(document, place, model, config, base, lake)
    # a catalogue that is still to be made is where it will be
    there = {path: str(catalog.file) for path, catalog in used.items() if catalog.file is not None}
    try:
        unit = model.model_validate(config)
        if lacking:
            return None
        unit = placed(unit, entry.unit, base)
        missing = [path for path in unit.files() if not path.exists()]
        columns = tuple(unit.output_columns())
        unit = with_paths(unit, lambda path: Path(there.get(str(path), path)))
        _check_fields(document, [*where, "unit"], unit, survey)
        needs = tuple(unit.needs())
    except ValidationError as error:
        note_refusals(document, error, model, place, "parameter")
        return None
    except AmpelSparkError as error:
        document.problem(place, str(error))
        return None
    for path in missing:
        document.problem(place, f"there is no file {path}")
    # what the job has by name is shown by name, and not by where it is on this machine
    names = {there.get(path, path): catalog.name for path, catalog in used.items()}
    named = {
        k: v for k, v in entry.config.items() if isinstance(getattr(unit, k), Path) and _is_name(v)
    }
    shown = replaced(unit.model_dump(mode="json"), names) | named
    channels = entry.channel or tuple(_channel_names(document))
    return UnitStep(
        _name_of(entry), entry.unit, unit, shown, channels, needs, columns, entry.time_limit
    )


def _check_fields(
    document: Document, where: list[str | int], unit: Unit, survey: Survey | None
) -> None:
    """Note fields of points that the unit reads and the job's survey does not have."""
    known = {*POINT_FIELDS, *(() if survey is None else survey.columns.points)}
    for name in unit.point_fields() or ():
        if survey is not None and name not in known:
            document.problem(
                where,
                f"it reads the field {name!r} of points, which survey {survey.name} does not"
                f" declare{nearest(name, known)}",
            )


def _class_of(
    document: Document, where: list[str | int], entry: UnitEntry, base: Path
) -> type[Unit] | None:
    try:
        return find_unit(entry.unit, base)
    except UnitError as error:
        document.problem(where, str(error))
        return None


def _rest_of(
    document: Document,
    entry: UnitEntry,
    model: type[Unit],
    catalogs: Mapping[str, CatalogSource],
) -> UnitStep | None:
    """Return a refused unit without its wrong parameters, for its ties; None: it makes no sense.

    Ties are those that the entry names: another may stand in for a parameter that was left out.
    """
    try:
        config, _ = catalog_config(model, entry.config, catalogs)
        try:
            unit = model.model_validate(config)
        except ValidationError as error:
            wrong = {refusal["loc"][0] for refusal in error.errors() if refusal["loc"]}
            unit = model.model_validate({k: v for k, v in config.items() if k not in wrong})
        needs = tuple(name for name in unit.needs() if name in _texts(entry.config))
    except (ValidationError, AmpelSparkError):
        return None
    channels = entry.channel or tuple(_channel_names(document))
    return UnitStep(_name_of(entry), entry.unit, unit, {}, channels, needs, ())


def _name_of(entry: UnitEntry) -> str:
    return entry.name or _own_name(entry.unit)


def _own_name(spec: str) -> str:
    known = spec in UNITS or spec in T3_UNITS
    return spec if known else _snake(spec.rpartition(":")[2])


def _texts(value: Any) -> set[str]:
    """Return all texts in a parameter's value, keys of mappings aside."""
    if isinstance(value, str):
        return {value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for part in parts for text in _texts(part)}


def _lacks_file(
    document: Document,
    where: list[str | int],
    model: type[Unit],
    config: Mapping[str, Any],
    base: Path,
    lake: Path,
) -> bool:
    """Note parameters that name a file which is not there."""
    lacking = False
    for key, value in paths_in(model, config):
        if (base / Path(value).expanduser()).exists():
            continue
        lacking = True
        place = [*where, *key]
        if key[-1] != "catalog" or not _is_name(value):
            document.problem(place, f"there is no file {base / value}")
        elif value not in named_catalogs(document):
            # of several catalogues, each can go by the name of its entry
            place = place if document.value(place) is not None else place[:-1]
            document.problem(place, unknown_catalog(document, value, lake))
    return lacking


def _check_ties(
    document: Document, i: int, step: UnitStep, steps: Mapping[str, UnitStep], complete: bool
) -> None:
    """Note ties of a unit that lead nowhere; without all units, of names that the job lacks."""
    for tie in step.needs:
        if tie in steps:
            _check_coverage(document, i, step, steps[tie])
            _check_columns(document, i, step, steps[tie])
        elif complete or tie not in _unit_names(document):
            known = nearest(tie, (other for other in steps if other != step.name))
            document.problem(
                ["t2", i],
                f"unit {step.name!r} needs the results of {tie!r}, which is not in t2{known}",
            )


def _check_coverage(document: Document, i: int, step: UnitStep, tie: UnitStep) -> None:
    lacking = [channel for channel in step.channels if channel not in tie.channels]
    if lacking:
        document.problem(
            ["t2", i],
            f"unit {step.name!r} needs the results of {tie.name!r},"
            f" which does not run for channel {lacking[0]!r}",
        )


def _check_columns(document: Document, i: int, step: UnitStep, tie: UnitStep) -> None:
    known = [column.name for column in tie.columns]
    for column in step.unit.tied_columns().get(tie.name, ()):
        if column not in known:
            document.problem(
                ["t2", i],
                f"unit {step.name!r} reads column {column!r} of {tie.name!r}, which has no such"
                f" column{nearest(column, known)}",
            )


def _stable(steps: Mapping[str, UnitStep]) -> list[UnitStep]:
    """Return the units in the order of the job, except that each comes after what it is tied to."""
    ordered: dict[str, UnitStep] = {}

    def add(name: str) -> None:
        if name in steps and name not in ordered:
            for tie in steps[name].needs:
                add(tie)
            ordered[name] = steps[name]

    for name in steps:
        add(name)
    return list(ordered.values())


class _Checker:
    """Parses the expressions of one selection, and checks them against what its channel has."""

    def __init__(
        self,
        document: Document,
        units: Sequence[UnitStep],
        channel: str | None,
        survey: Survey | None,
    ) -> None:
        mine = [unit for unit in units if channel is None or channel in unit.channels]
        self._document = document
        self._channel = channel
        self._types = _named_types(mine, survey)
        self._names = {unit.name for unit in mine} | {ALERT}
        self._others = {unit.name for unit in units} - self._names
        # units that could not be built: what columns they have nobody knows
        self._broken = _unit_names(document) - {unit.name for unit in units}

    def expression(
        self, where: Sequence[str | int], text: str, kinds: Sequence[str]
    ) -> Expression | None:
        from ampel_spark.expressions import parse

        try:
            expression = parse(text)
            named = {column.partition(".")[0] for column in expression.columns if "." in column}
            if named & self._broken:
                return None
            for name in sorted(named - self._names):
                run = (
                    f"does not run for channel {self._channel!r}"
                    if name in self._others
                    else "is not in t2"
                )
                hint = "" if name in self._others else nearest(name, self._names)
                self._document.problem(where, f"unit {name!r} {run}{hint}, value {text!r}")
                return None
            found = expression.check(self._types)
        except ConfigError as error:
            self._document.problem(where, str(error))
            return None
        if kinds and found not in kinds:
            self._document.problem(
                where, f"a {' or a '.join(kinds)} is needed, and this is a {found}, value {text!r}"
            )
        return expression


def _columns(
    document: Document, where: list[str | int], entry: SelectionEntry, check: _Checker
) -> dict[str, Expression]:
    """Return a selection's columns by label; that of ``unit.column`` alone is ``unit_column``."""
    columns: dict[str, Expression] = {}
    labelled = isinstance(entry.columns, dict)
    items = entry.columns.items() if isinstance(entry.columns, dict) else enumerate(entry.columns)
    for key, text in items:
        place = [*where, key]
        expression = check.expression(place, text, ())
        if expression is None:
            continue
        label = str(key) if labelled else (expression.name or "").replace(".", "_")
        if not label:
            document.problem(
                place, f"give this a label: 'columns: {{label: expression}}', value {text!r}"
            )
        elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", label):
            document.problem(
                place, f"a label is a letter, then letters, digits and '_', value {label!r}"
            )
        elif label.lower() in TABLES["candidates"].names:
            if expression.name != label:
                document.problem(
                    place, f"the table has a column {label!r} of its own: take another label"
                )
        elif label.lower() in {other.lower() for other in columns}:
            # Spark and Delta do not tell upper from lower case
            document.problem(place, f"a second column {label!r}")
        else:
            columns[label] = expression
    return columns


def _check_channels(
    document: Document, where: list[str | int], names: Sequence[str], known: Sequence[str]
) -> None:
    several = isinstance(document.value(where), list)
    for k, name in enumerate(names):
        if name not in known:
            document.problem(
                [*where, k] if several else where,
                f"unknown channel, value {name!r}{nearest(name, known)}",
            )


def _raw(document: Document, key: str) -> list[dict[str, Any]]:
    """Return the entries of a section as they are written, right or wrong."""
    section = document.content.get(key)
    return [item for item in section if isinstance(item, dict)] if isinstance(section, list) else []


def _channel_names(document: Document) -> list[str]:
    names = (entry.get("name") for entry in _raw(document, "channel"))
    return list(dict.fromkeys(str(name) for name in names if name is not None))


def _unit_names(document: Document) -> set[str]:
    """Return what the entries of t2 are called, whether they could be built or not."""
    return {
        str(entry.get("name") or _own_name(str(entry.get("unit"))))
        for entry in _raw(document, "t2")
    }


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and "/" not in value and not Path(value).suffix


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
