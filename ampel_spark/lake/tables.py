"""The tables of a lake: columns with type and meaning, keys, and what is comparable.

One specification serves the writer (Delta schemas with column comments), the Spark-free readers
and the documentation. A table's *key* names the columns under which a row stands once; columns
marked incomparable (run ids, durations, dates) may differ between two equal runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructField, StructType

__all__ = [
    "INCOMPARABLE",
    "RESULT_HEAD",
    "TABLES",
    "TableColumn",
    "Table",
    "columns_of",
    "result_table",
    "sample_table",
    "spark_type",
    "struct_fields",
]


#: Types of which extremes are noted, and of how many columns, where a table does not say of which.
#: Of real numbers they are not: a NaN among them makes deltalake find none.
_COMPARED = frozenset({"int", "bigint", "string", "timestamp"})
_MOST = 32


@dataclass(frozen=True)
class TableColumn:
    """A column: its name, Spark SQL type, and its meaning with the unit in brackets.

    A struct has its own columns as `fields`.
    """

    name: str
    type: str
    comment: str
    fields: tuple[TableColumn, ...] = ()

    @classmethod
    def struct(cls, name: str, fields: Sequence[TableColumn], comment: str) -> TableColumn:
        """Return a column that is a struct of scalars."""
        kind = ",".join(f"{f.name}:{f.type}" for f in fields)
        return cls(name, f"struct<{kind}>", comment, tuple(fields))

    def schema(self) -> StructField:
        """Return the column as Spark has it, with comments."""
        from pyspark.sql.types import StructField, StructType

        kind = StructType([f.schema() for f in self.fields]) if self.fields else None
        return StructField(
            self.name, kind or spark_type(self.type), True, {"comment": self.comment}
        )


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes
    ----------
    name : str
        Folder under the lake's root.
    comment : str
        What a row is.
    columns : sequence of TableColumn
    key : sequence of str
        Columns under which a row stands once; empty for a plain journal.
    noted : sequence of str, optional
        Columns whose extremes are noted for each file; see `extremes`. Wide tables cost as much for
        that as for the rest of writing them.
    """

    name: str
    comment: str
    columns: Sequence[TableColumn]
    key: Sequence[str] = field(default=())
    noted: Sequence[str] | None = None

    def schema(self) -> StructType:
        """Return the Spark schema, with comments."""
        from pyspark.sql.types import StructType

        return StructType([c.schema() for c in self.columns])

    @property
    def extremes(self) -> tuple[str, ...]:
        """Columns by whose extremes readers pass files over; those `noted`, or the first.

        A table's properties name them, and every commit notes all of them: of a column that its
        properties name and a commit leaves out, deltalake takes no row to have a value.
        """
        if self.noted is not None:
            return tuple(self.noted)
        return tuple(c.name for c in self.columns if c.type in _COMPARED)[:_MOST]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]


#: Columns that say who wrote a row, when, how fast and from which version of a table: not part of
#: "equal, bit for bit".
INCOMPARABLE = frozenset(
    {"run_id", "duration_ms", "attempts", "started", "ended", "committed", "seconds"}
    | {"set_id", "part"}
    | {"path", "file", "datapoints_version", "alerts_version", "quarantine_version"}
    | {"sightings_version"}
)


def spark_type(name: str) -> DataType:
    """Return the Spark type of a Spark SQL type name (scalars, arrays and structs of scalars).

    Unlike Spark's own DDL parser it needs no session.
    """
    from pyspark.sql import types as t

    scalars: Mapping[str, DataType] = {
        "binary": t.BinaryType(),
        "boolean": t.BooleanType(),
        "int": t.IntegerType(),
        "bigint": t.LongType(),
        "float": t.FloatType(),
        "double": t.DoubleType(),
        "string": t.StringType(),
        "timestamp": t.TimestampType(),
    }
    if name.startswith("array<") and name.endswith(">"):
        return t.ArrayType(spark_type(name[6:-1]))
    if name.startswith("struct<"):
        return t.StructType([t.StructField(f, spark_type(kind)) for f, kind in struct_fields(name)])
    return scalars[name]


def struct_fields(name: str) -> list[tuple[str, str]]:
    """Return names and types of the fields of ``struct<rb:float,nbad:int>``."""
    return [(f, kind) for f, _, kind in (p.partition(":") for p in name[7:-1].split(","))]


def columns_of(text: str) -> tuple[TableColumn, ...]:
    """Read columns from lines ``name | type | comment``; empty lines and ``#`` are skipped."""
    lines = (line for line in text.splitlines() if line.strip() and line[0] != "#")
    rows = ([part.strip() for part in line.split("|", 2)] for line in lines)
    return tuple(TableColumn(name, kind, comment) for name, kind, comment in rows)


_RUN = "run_id | string | run that wrote the row\n"

_ARCHIVE_FILES = columns_of(
    """
path | string | where the file was read from
sha256 | string | of the whole file
survey | string | survey of its packets
bytes | bigint | size of the file [B]
packets | bigint | members seen = stored + duplicate + quarantined
stored | bigint | packets stored as alerts
duplicate | bigint | packets that were stored before with the same content
quarantined | bigint | packets that could not be read or failed a check
broken | boolean | the file ended before its end: one file-level row of quarantine
night_first | int | first night of its stored packets [UTC date, YYYYMMDD]
night_last | int | last night of its stored packets [UTC date, YYYYMMDD]
chunk | string | chunk of archive it was committed in
sightings_version | bigint | version of sightings that belongs with this chunk
datapoints_version | bigint | version of datapoints that belongs with this chunk
alerts_version | bigint | version of alerts that belongs with this chunk
quarantine_version | bigint | version of quarantine that belongs with this chunk
"""
    + _RUN
)

_QUARANTINE = columns_of(
    """
file | string | archive file
member | string | member of it; null where the file itself is broken
sha256 | string | of the member's bytes, or of the file
reason | string | one word: not_avro, truncated, wrong_schema, bad_value, conflict, \
broken_archive, empty_archive; bad_entry where the packet is stored without entries of its history
detail | string | what exactly was wrong
"""
    + _RUN
)

_DATAPOINTS = columns_of(
    """
survey | string | survey
stock | bigint | object (AMPEL's stock id)
datapoint_id | bigint | AMPEL's id: candid, or a negative id for upper limits; \
forced points below -2**62
revision | int | 0 for the values first seen; a change of 1e-3 mag or more is the next
kind | string | detection, upper_limit or forced
jd | double | start of the exposure [d]
band | string | ztfg, ztfr or ztfi, as sncosmo names them
mag | double | PSF magnitude of the difference, its sign apart [mag]
magerr | double | its 1-sigma error [mag]
limit_mag | double | 5-sigma limiting magnitude of the difference image [mag]
sign | int | 1, or -1 for a negative subtraction; 0 for an upper limit
flux | double | difference flux with its sign [10**(-0.4 (m - zp))]
fluxerr | double | its 1-sigma error [10**(-0.4 (m - zp))]
zp | double | zero point of flux and fluxerr [mag]
zpsys | string | magnitude system
programid | int | 1 public, 2 partnership, 3 Caltech
field | int | survey field
rcid | int | readout channel
pid | bigint | processing id of the image
ra | double | right ascension [deg, ICRS]
dec | double | declination [deg, ICRS]
procstatus | string | status of forced photometry; its flux is null where it is not usable
value_hash | bigint | xxh64 of all these values
first_alert_jd | double | jd of the first alert that showed these values [d]
first_alert_id | bigint | id of that alert
"""
    + _RUN
)

_POINTS_NOTED = ("jd", "first_alert_jd", "first_alert_id", "programid")

# The columns of datapoints without the number, which is given when all sightings are known.
_SIGHTINGS = tuple(c for c in _DATAPOINTS if c.name != "revision")

_DECISIONS = columns_of(
    """
channel | string | channel
survey | string | survey
stock | bigint | object
name | string | the survey's name of the object
alert_id | bigint | alert
jd | double | time of the alert [d]
accepted | boolean | the channel takes this alert
group | int | group of the filter that accepted it, or null
cut | string | first cut that failed; null where the filter passed or was not asked
value | double | what the alert had, in the cut's unit
threshold | double | what the cut asked for, in the same unit
bypassed | boolean | accepted because the object was accepted before (on_stock_match)
trace_id | string | filter, parameters, code and catalogue that judged
set_id | string | decision set of the row; the record of a run names the sets that it used
part | int | which growth of the set brought the row, from 0; of one alert, the latest part counts
run_id | string | run that first made it
"""
)

_DECISION_SETS = columns_of(
    """
set_id | string | decision set
part | int | which growth of the set, from 0
channel | string | channel
survey | string | survey
trace_id | string | filter, parameters, code and catalogue that judged
alerts_version | bigint | version of alerts that the set covers with this part
until_jd | double | time up to which it covers them [d]; null: all
alerts | bigint | alerts that this part judged
accepted | bigint | accepted ones among them
bypassed | bigint | accepted because the object was accepted before
revised | bigint | alerts among them that an earlier part had judged
cuts | array<string> | cuts that rejected alerts
lost | array<bigint> | how many alerts each of these cuts rejected
decisions_version | bigint | version of decisions that brought the part
run_id | string | run that made it
"""
)

_STATES = columns_of(
    """
state_id | string | 128-bit hash of the content, hexadecimal
link | bigint | AMPEL's link: signed xxh32 over the sorted datapoint ids
survey | string | survey
stock | bigint | object
name | string | the survey's name of the object
n_detections | int | detections in it
n_upper_limits | int | upper limits in it
n_forced | int | forced measurements in it
jd_first | double | first detection [d]
jd_last | double | last detection [d]
datapoint_ids | array<bigint> | ids of its datapoints, sorted
run_id | string | run that first made it
"""
)

_STATE_CHANNELS = columns_of(
    """
channel | string | channel that wants the state
stock | bigint | object
state_id | string | state
as_of_jd | double | time up to which alerts count [d]; null: all of the pinned version
as_of_alert_id | bigint | alert up to which alerts of that jd count; null: all
alert_id | bigint | alert that the state is of, where the job wants one state per alert
calibration | string | calibration release
rules | array<int> | numbers of the release's rules that changed or masked a point of it
access | string | program ids that may be seen, comma-separated
points | string | kinds of datapoints in it, comma-separated
datapoints_version | bigint | version of datapoints it was read from
alerts_version | bigint | version of alerts it was read from
"""
    + _RUN
)

_CALIBRATIONS = columns_of(
    """
release | string | name of the release
content_hash | string | hash of all that its rules select and change, tables included
rule | int | place of the rule in the release, from 1
name | string | name of the rule
description | string | of the release
selects | string | what the rule selects, {} all points; jd, mag as [from, before] [JSON]
changes | string | what it changes: mask, replace, table, zero_point, nonlinearity, slope, \
flux_scale, error_scale, error_floor, flux_floor [JSON]
objects | array<bigint> | objects it selects; null: all
tables | array<string> | files of the tables it names
"""
    + _RUN
)

_CANDIDATES = columns_of(
    """
channel | string | channel
selection | string | name of the selection in the job
stock | bigint | object
name | string | the survey's name of the object
state_id | string | state that was judged
rank | int | 1 is best
"""
    + _RUN
)

_RUNS = columns_of(
    """
run_id | string | run
job | string | name of the job
job_hash | string | sha256 of the resolved job
job_text | string | the job file as it was read
job_file | string | where the job file was
job_resolved | string | the job with all defaults [JSON]
parent_run_id | string | run that this one reran
calibration | string | calibration release
inputs | string | versions of the tables it read [JSON]
outputs | string | versions of the tables it wrote [JSON]
traces | string | traces of filters and units, with what went into them [JSON]
counts | string | what went in and came out of every tier [JSON]
decisions | string | by channel: set_id, the last part that counts, and until_jd, where alerts \
count up to a time [JSON]
software | string | package versions [JSON]
git_commit | string | of the project, with + where files were changed
started | timestamp | start, UTC
ended | timestamp | end, UTC
status | string | running (or killed), good, partial or failed
message | string | why it failed
"""
)

_SYSTEMATICS = columns_of(
    """
variation | string | name of the variation in the job
variation_run_id | string | run of the variation
weight | double | factor on its shifts in the covariance
selection | string | selection whose candidates are the sample
stock | bigint | object
name | string | the survey's name of the object
parameter | string | column of the unit, or mu: distance modulus [mag]
nominal | double | its value in the nominal run
error | double | its 1-sigma error there, where it has one
shift | double | value of the variation - nominal; null where the variation has none
changed_minimum | boolean | the variation's fit of this object is in another minimum
run_id | string | nominal run
"""
)

_PINS = columns_of(
    """
run_id | string | run that needs the version
table | string | table
version | bigint | version of it that stays readable
pinned | timestamp | when, UTC
released | timestamp | when the pin was let go, UTC; null while it holds
"""
)

_MODELS = columns_of(
    """
name | string | what the model is called
version | int | of the model, from 1
model_id | string | sha256 of its trees, inputs and classes
created | timestamp | when it was trained, UTC
classes | array<bigint> | its classes, in the order of its outputs [DESC's taxonomy]
inputs | array<string> | its inputs, in order
training_table | string | table of the features that it was trained with
table_version | bigint | version of that table
rows | bigint | states that it was trained with
objects | bigint | objects of these states
rows_hash | string | sha256 over these states, inputs, labels and weights
features_id | bigint | what the features mean
trace_id | string | trace of the unit that made them
seed | bigint | seed of the training
metrics | string | what was measured on objects held out [JSON]
document | string | the model as a document: trees as text, parameters, origin [JSON]
git_commit | string | of the project, with + where files were changed
"""
)

_EVENTS = columns_of(
    """
event | string | name of the event
revision | int | its revision, from 0; the newest counts
type | string | initial, update or retraction: then there is no event
sender | string | who reported it
pipeline | string | class of the event, as its sender has it
jd | double | time of the event, UTC [d]
sent | double | when the revision was sent, UTC [d]
shape | string | ellipse (also a circle), quarters (of ellipses), map, or none
ra | double | centre, of a map its densest pixel [deg, ICRS]
dec | double | centre, of a map its densest pixel [deg, ICRS]
major | double | semi-major axis of an ellipse [deg]
minor | double | semi-minor axis of an ellipse [deg]
angle | double | position angle of the major axis, north through east [deg]
east | double | error to the east, in degrees of right ascension [deg]
west | double | error to the west, in degrees of right ascension [deg]
north | double | error to the north [deg]
south | double | error to the south [deg]
containment | double | probability that the region holds
area | double | area of that region [deg2]
energy | double | energy [TeV]
signalness | double | probability to be astrophysical
far | double | false alarm rate [Hz]
distance | double | mean distance [Mpc]
distance_err | double | its 1-sigma error [Mpc]
uniq | array<bigint> | pixels of a sky map, UNIQ numbers
density | array<double> | probability density of each pixel [1/sr]
distmu | array<double> | location of the distance in each pixel [Mpc]
distsigma | array<double> | scale of the distance in each pixel [Mpc]
distnorm | array<double> | norm of the distance in each pixel [1/Mpc2]
content_hash | string | hash of all that the revision says
source | string | file that it was read from
added | timestamp | when it came into the lake, UTC
"""
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        Table("archive_files", "one archive file in one run", _ARCHIVE_FILES),
        Table("quarantine", "one packet or file that could not be taken", _QUARANTINE,
              ("file", "member", "sha256")),
        Table("datapoints", "one revision of one datapoint of one object", _DATAPOINTS,
              ("survey", "stock", "datapoint_id", "revision"),
              ("stock", "datapoint_id", "revision", *_POINTS_NOTED)),
        Table("sightings", "one change of the values of a datapoint, however small; only of those "
              "that were seen with more than one set of values", _SIGHTINGS,
              ("survey", "stock", "datapoint_id", "first_alert_jd", "first_alert_id"),
              ("stock", "datapoint_id", *_POINTS_NOTED)),
        Table("decisions", "one alert judged for one channel under one trace", _DECISIONS,
              ("set_id", "part", "alert_id"), ("set_id", "part", "stock", "alert_id", "jd")),
        Table("decision_sets", "one part of a set of decisions", _DECISION_SETS,
              ("set_id", "part")),
        Table("states", "one state, content only", _STATES, ("state_id",)),
        Table("state_channels", "one state wanted by one channel of one run", _STATE_CHANNELS),
        Table("calibrations", "one rule of one calibration release", _CALIBRATIONS,
              ("content_hash", "rule")),
        Table("candidates", "one object selected by one run", _CANDIDATES),
        Table("models", "one version of one trained model", _MODELS, ("name", "version"),
              ("name", "version")),
        Table("systematics", "one number of one object, shifted by one variation of a run",
              _SYSTEMATICS, ("run_id", "variation", "stock", "parameter")),
        Table("events", "one revision of one event: a region of the sky with a time", _EVENTS,
              ("event", "revision"), ("event", "revision")),
        Table("runs", "one run", _RUNS, ("run_id",), ("run_id",)),
        Table("pins", "one version of a table that one run needs", _PINS, ("run_id", "table")),
    )
}  # fmt: skip


_RESULTS_NOTED = (
    "state_id", "stock", "name", "trace_id", "status", "duration_ms", "attempts", "run_id"
)  # fmt: skip


def result_table(name: str, columns: Sequence[TableColumn]) -> Table:
    """Return the table of a unit's results: the contract's columns and the unit's own.

    Parameters
    ----------
    name : str
        Name of the T2 entry; the table is ``t2_<name>``.
    columns : sequence of TableColumn
        The unit's columns.
    """
    head = columns_of(
        """
state_id | string | state
subject_id | string | object and what the unit read of it, where it looks at no photometry: states \
that have it alike share the result; else null
stock | bigint | object
name | string | the survey's name of the object
trace_id | string | unit, parameters, code and files that computed it
input_hash | string | what it read beside the state; empty: nothing
status | int | 0 good; negative: AMPEL's codes; positive: the unit's own
message | string | why, where the status is not 0
duration_ms | double | time the unit took [ms]; of a batch, its time over its light curves
attempts | int | how often it was tried; an exception is tried again by later runs, up to 3 times
"""
        + _RUN
    )
    return Table(f"t2_{name}", f"one result of unit {name}", (*head, *columns),
                 ("state_id", "trace_id", "input_hash"), _RESULTS_NOTED)  # fmt: skip


def sample_table(name: str, columns: Sequence[TableColumn]) -> Table:
    """Return the table of what a unit of T3 makes of candidates.

    Parameters
    ----------
    name : str
        Of the table: ``t3_<name of the entry>``.
    columns : sequence of TableColumn
        The unit's columns.
    """
    head = columns_of("\nrow | bigint | place of the row in what the unit made, from 1\n" + _RUN)
    return Table(name, "one row that a unit made of the candidates of one run", (*head, *columns))


#: Columns of every table of results; the others are the unit's own.
RESULT_HEAD = frozenset(result_table("", ()).names)
