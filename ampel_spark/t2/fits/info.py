"""What the SALT2.INFO or SALT3.INFO beside a model says: its range, and its calibration shifts.

SNANA reads these files, and who publishes retrainings writes them. A line is a key and its values:
``RESTLAMBDA_RANGE: 3000 7000``, ``MAGSHIFT: SDSS g 0.01`` or ``WAVESHIFT: SDSS g 5`` (also
``LAMSHIFT``). A shift says with which calibration the model was trained, so that fits take it too:
the model's magnitudes in that band are larger by MAGSHIFT, and the band lies WAVESHIFT to the red.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ampel_spark.errors import ConfigError

__all__ = ["FILES", "ModelInfo", "BandShift", "read_info"]

#: Names of these files.
FILES = ("SALT2.INFO", "SALT3.INFO")

_SHIFTS = {"MAGSHIFT": "mag", "WAVESHIFT": "wave", "LAMSHIFT": "wave"}


@dataclass(frozen=True)
class BandShift:
    """A calibration shift of one band of one survey.

    Attributes
    ----------
    kind : {"mag", "wave"}
    surveys : tuple of str
    band : str
        As the file calls it.
    value : float
        Magnitudes, or Å.
    """

    kind: str
    surveys: tuple[str, ...]
    band: str
    value: float

    def names(self) -> Iterator[str]:
        """Yield what bands it is of, in lower case: ``ps1::g`` and ``ps1g`` for PS1 and g."""
        # SNANA appends a letter of its own behind a slash
        band = self.band.partition("/")[0].lower()
        instrument, dash, letter = band.rpartition("-")
        if dash:
            yield from (f"{instrument}::{letter}", f"{instrument}{letter}")
        for survey in self.surveys:
            yield f"{survey}/{self.band}".lower()
            yield from (f"{survey}::{letter}".lower(), f"{survey}{letter}".lower())


@dataclass(frozen=True)
class ModelInfo:
    """What a SALT2.INFO or SALT3.INFO says, as far as it matters to a fit.

    Attributes
    ----------
    file : Path or None
        None where there is no such file.
    wave_range : (float, float) or None
        Effective wavelengths that the model is good for, rest frame, Å.
    shifts : tuple of BandShift
    """

    file: Path | None = None
    wave_range: tuple[float, float] | None = None
    shifts: tuple[BandShift, ...] = ()

    def of_bands(self, bands: Mapping[str, str]) -> dict[str, dict[str, float]]:
        """Return the shifts of bands: for ``mag`` and ``wave`` the sum for each band.

        Parameters
        ----------
        bands : mapping of str to str
            Names of bands, and what the file calls each, as ``PS1/g``; "" to go by the name.
        """
        found: dict[str, dict[str, float]] = {"mag": {}, "wave": {}}
        for shift in self.shifts:
            names = set(shift.names())
            for band, called in bands.items():
                if (called or band).lower() in names:
                    of_kind = found[shift.kind]
                    of_kind[band] = of_kind.get(band, 0.0) + shift.value
        return found


def read_info(folder: Path) -> ModelInfo:
    """Return what the file beside a model says; an empty `ModelInfo` where there is none.

    Raises
    ------
    ConfigError
        If a line cannot be read, or asks for what sncosmo's SALT has not: an offset of the colour.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        return ModelInfo()
    wave_range, shifts = None, []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        key = words[0].removesuffix(":") if words and words[0].endswith(":") else ""
        try:
            if key in _SHIFTS:
                surveys, band, value = words[1:4]
                shifts.append(
                    BandShift(_SHIFTS[key], tuple(surveys.split(",")), band, float(value))
                )
            elif key == "RESTLAMBDA_RANGE":
                wave_range = (float(words[1]), float(words[2]))
            elif key == "COLOR_OFFSET" and float(words[1]) != 0.0:
                raise ConfigError(
                    f"{file}, line {number}: an offset of the colour ({words[1]}) is nothing that "
                    "sncosmo's SALT can take: put it into the colour law"
                )
        except (ValueError, IndexError):
            raise ConfigError(f"{file}, line {number}: {line.strip()!r} cannot be read") from None
    return ModelInfo(file, wave_range, tuple(shifts))
