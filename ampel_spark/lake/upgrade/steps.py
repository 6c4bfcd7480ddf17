"""The steps from one format of a lake to the next, and what holds them together.

An upgrade may be killed at any moment and begun again. Its marker, written first, names the version
of every table as it was found; steps read these versions, whatever is committed meanwhile, and
commit each table once. The marker of the new format is written last. Versions from before the
upgrade stay readable.

Whoever changes tables adds a `UpgradeStep` to `STEPS`, under the format that the change leads to.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ampel_spark.errors import LakeError
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.marker import FORMAT, read_marker, write_marker
from ampel_spark.lake.reading import find_lake
from ampel_spark.lake.upgrade import decision_sets, input_hashes, subjects, survey_columns

__all__ = ["STEPS", "UpgradeStep", "upgrade"]

Out = Callable[[str], None]


@dataclass(frozen=True)
class UpgradeStep:
    """One change of the format.

    Attributes
    ----------
    text : str
        What changes, for the user.
    run : callable
        Takes the lake's root, the versions of its tables by name, and a function for lines of
        progress. Called again after it was killed, it does what is left to do.
    """

    text: str
    run: Callable[[Path, Mapping[str, int], Out], None]


#: The steps in their order, by the format that they lead to.
STEPS: Mapping[int, Sequence[UpgradeStep]] = {
    2: (
        UpgradeStep(
            "input hashes of results are over the keys of tied results", input_hashes.rewrite
        ),
    ),
    3: (
        UpgradeStep("decisions belong to sets that runs name", decision_sets.rewrite),
        UpgradeStep("results name their subject", subjects.add_column),
        UpgradeStep("alerts and datapoints have columns that surveys declare", survey_columns.say),
    ),
}


def upgrade(lake: str | Path, out: Out = print) -> bool:
    """Bring a lake to the format of this version.

    Parameters
    ----------
    lake : path
        Root of the lake.
    out : callable
        Takes lines for the user.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    LakeError
        If the folder is no lake, the lake is of a newer format, or a run is at work on it.
    """
    root = find_lake(lake).resolve()
    with _alone(root):
        marker = read_marker(root)
        begun = "upgrading" in marker
        own = {key: marker[key] for key in ("branch",) if key in marker}
        before = marker["upgrading"] if begun else marker.get("format")
        if not isinstance(before, int) or not 1 <= before <= FORMAT - begun:
            raise LakeError(
                f"lake {root} has format {marker.get('format')}, this version upgrades formats 1 to"
                f" {FORMAT - 1}: install the version of ampel_spark that wrote it, or a newer one"
            )
        for target in range(before + 1, FORMAT + 1):
            if not begun:
                marker = {
                    "format": f"{target - 1} to {target}",
                    "upgrading": target - 1,
                    "versions": _versions(root),
                    **own,
                }
                write_marker(root, marker)
            begun = False
            for step in STEPS[target]:
                out(f"upgrade: format {target}: {step.text}")
                step.run(root, marker["versions"], out)
            write_marker(root, {"format": target, **own})
        return before < FORMAT


def _versions(root: Path) -> dict[str, int]:
    """Return the newest version of every table of a lake, by name."""
    names = sorted(log.parent.name for log in root.glob("*/_delta_log"))
    found = {name: newest_version(root / name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep other upgrades out, and refuse to begin while a run of the older version is at work.

    Raises
    ------
    LakeError
        If a run or an ingest holds the lake.
    """
    (root / "_locks").mkdir(exist_ok=True)
    with contextlib.ExitStack() as held:
        for lock in (root / "_locks" / "upgrade", root / "_locks" / "archive"):
            _take(held, lock, root)
        for lock in sorted((root / "_staging").glob("*.lock")):
            _take(held, lock, root)
        yield


def _take(held: contextlib.ExitStack, lock: Path, root: Path) -> None:
    stream = held.enter_context(lock.open("a"))
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LakeError(
            f"lake {root} is in use ({lock.parent.name}/{lock.name} is held): upgrade it when the "
            "run, ingest or upgrade at work has ended"
        ) from None
