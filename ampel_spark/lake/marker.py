"""The file that marks a folder as a lake, with the number of the lake's format.

A lake that is being brought to this format has a marker of no format at all: neither this version
nor an older one takes it until the upgrade has come to its end (`ampel_spark.lake.upgrade`).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ampel_spark.errors import LakeError
from ampel_spark.store import place

__all__ = ["FORMAT", "MARKER", "check_format", "check_path", "mark", "read_marker", "write_marker"]

#: Version of the lake's format; a lake of another one is refused.
FORMAT = 3

#: File that marks a folder as a lake.
MARKER = "_ampel_spark.json"


def mark(root: str | Path) -> Path:
    """Return the root of a lake, which is made, with its marker, where it is absent or empty.

    Parameters
    ----------
    root : path
        Folder of the lake.

    Raises
    ------
    LakeError
        If `root` is something else than a lake of this format.
    """
    root = place(root).resolve()
    check_path(root)
    if _is_marked(root):
        return root
    # Another process or thread may be making the same lake, and be further by now.
    if (
        root.exists()
        and (not root.is_dir() or any(not p.name.startswith(MARKER) for p in root.iterdir()))
        and not _is_marked(root)
    ):
        raise LakeError(f"{root} is not empty and not a lake (no {MARKER}); name another --lake")
    root.mkdir(parents=True, exist_ok=True)
    write_marker(root, {"format": FORMAT})
    return root


def check_path(root: Path) -> None:
    """Refuse the path of a lake that readers of Delta would take for another.

    Raises
    ------
    LakeError
        If it has a character in it that means something in an address.
    """
    odd = sorted({character for character in str(root) if character in "#?\\%" or character < " "})
    if odd:
        raise LakeError(
            f"the path of lake {root} has {' and '.join(map(repr, odd))} in it, which readers of"
            " its tables take for something else: name another folder"
        )


def check_format(root: Path) -> None:
    """Refuse a lake of another format.

    Parameters
    ----------
    root : Path
        Folder of a lake, with a marker.

    Raises
    ------
    LakeError
        If it has another format; the message says how the lake is brought to this one.
    """
    marker = read_marker(root)
    found = marker.get("format")
    if found == FORMAT:
        return
    if "upgrading" in marker:
        what = f"lake {root} is half-way from format {marker['upgrading']} to another"
    else:
        what = f"lake {root} has format {found}, this version reads format {FORMAT}"
    if isinstance(found, int) and found > FORMAT:
        raise LakeError(f"{what}: install the version of ampel_spark that wrote it, or a newer one")
    raise LakeError(f"{what}: `ampel-spark maintain --upgrade --lake {root}` brings it over")


def read_marker(root: Path) -> dict[str, Any]:
    """Return what the marker of a lake says.

    Raises
    ------
    LakeError
        If it says nothing that can be read.
    """
    marker = root / MARKER
    try:
        found = json.loads(marker.read_text())
    except OSError as error:
        raise LakeError(f"{marker} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise LakeError(f"{marker} cannot be read ({error}): is {root} a lake?") from None
    if not isinstance(found, dict):
        raise LakeError(f"{marker} holds no mapping: is {root} a lake?")
    return found


def write_marker(root: Path, content: Mapping[str, Any]) -> None:
    """Write the marker of a lake in one step."""
    text = json.dumps({**content, "made_by": "ampel_spark"}, sort_keys=True) + "\n"
    partial = root / f"{MARKER}.{os.getpid()}.{threading.get_ident()}"
    partial.write_text(text)
    partial.replace(root / MARKER)


def _is_marked(root: Path) -> bool:
    if not (root / MARKER).is_file():
        return False
    check_format(root)
    return True
