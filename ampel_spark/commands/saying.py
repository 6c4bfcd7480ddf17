"""How a command speaks: no control characters of others, and one sentence for what went wrong."""

from __future__ import annotations

import errno
import re
from typing import Any, TextIO

__all__ = ["Escaped", "sentence"]

# What takes the place of the line before, on a terminal; and what may move a cursor, change colours
# or turn the direction of writing.
_CONTROL = re.compile(
    "(?:^\r|\r\x1b\\[K)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_OURS = ("\r", "\r\x1b[K")


class Escaped:
    """A stream that shows the control characters in texts, as ``\\u001b``, and obeys none.

    Names and messages come from archives, catalogues and jobs of others.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, in which nothing but line breaks and tabs is more than a character."""
        self._stream.write(_CONTROL.sub(self._shown, text))
        return len(text)

    def _shown(self, found: re.Match[str]) -> str:
        if found[0] in _OURS and self._stream.isatty():
            return found[0]
        return "".join(f"\\u{ord(character):04x}" for character in found[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def sentence(error: BaseException, lake: str | None = None) -> str | None:
    """Return one sentence for an error of a file, a library or the machine; None for a bug.

    Parameters
    ----------
    error : exception
    lake : str, optional
        The lake that the command is about.
    """
    more = (
        f"; `ampel-spark maintain --check{f' --lake {lake}' if lake else ''}` says what is damaged"
    )
    if isinstance(error, MemoryError):
        return "there is not enough memory: give AMPEL_SPARK_DRIVER_MEMORY, or read less at a time"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}{_cure(error.errno)}"
    text = _words(error)
    for words, number in _TEXTS.items():
        if words in text:
            return f"{text}{_cure(number)}"
    module = type(error).__module__.partition(".")[0]
    of_libraries = module in _LIBRARIES or isinstance(error, OSError | UnicodeError)
    return f"{text}{more}" if of_libraries or _rises_in_library(error) else None


_LIBRARIES = ("pyarrow", "deltalake", "_internal", "delta", "pyspark", "py4j", "json")


def _rises_in_library(error: BaseException) -> bool:
    """Say whether a library that reads files raised an error of Python's own kinds."""
    trace, file = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return file.endswith(".pxi") or any(f"/{name}/" in file for name in _LIBRARIES)


_TEXTS = {
    "No space left on device": errno.ENOSPC,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EROFS,
}


def _cure(number: int) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return ": make room, and run the same again: what was committed stays"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ": ask its owner for the right to write there, or name another folder"
    return ""


def _words(error: BaseException) -> str:
    """Return the words of an error: of Spark's, those of its deepest cause, without the stack."""
    text = str(error)
    causes = re.findall(r"(?:Caused by|Error|Exception): ?([^\n]+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    picked = causes[-1] if len(lines) > 3 and causes else (lines[0] if lines else "")
    return " ".join(picked.split())[:300] or type(error).__name__
