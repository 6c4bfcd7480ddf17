"""The lake of format 1 that is kept for tests, made by the last code that wrote that format.

It is three runs of the quickstart on 400 simulated alerts of 35 nights, under a neutral path::

    ampel-spark run jobs/quickstart.yml --set archive.simulate.alerts=400 \\
        --set archive.simulate.nights=35
    … --calibration zp_g_10mmag
    … --set t2.host.config.radius=1.0

The last one has fits of the first one's trace, with other redshifts and with the same. Reports,
exports and locks are left out. To be smaller when packed, files of `alerts`, `datapoints`,
`sightings` and `truth` were written again without compression, and their sizes in the log follow.

``format_1.json`` holds what that code found in it: for each run, unit and state the `duration_ms`
of the result that the run used, which tells the rows apart.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

__all__ = ["RUNS", "USED", "unpack_format_1"]

_FOLDER = Path(__file__).parent / "lake"

#: Ids of the runs, the oldest first.
RUNS = (
    "quickstart-20261130T142059-a8bf",
    "quickstart-20261130T142733-f523",
    "quickstart-20261130T144048-744e",
)
#: By run, unit and state: the result that the run used.
USED = json.loads((_FOLDER / "format_1.json").read_text())


def unpack_format_1(folder: Path) -> Path:
    """Unpack the lake into a folder, and return its root."""
    with tarfile.open(_FOLDER / "format_1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "lake"
