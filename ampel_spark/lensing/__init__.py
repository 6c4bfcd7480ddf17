"""How likely a light curve is that of a lensed supernova of type Ia: arrays in, arrays out.

`LensFitter` compares a normal SN Ia near a catalogue's redshift, a magnified one behind it, and a
core-collapse or superluminous supernova at the catalogue's redshift.
"""

from ampel_spark.lensing.fitter import LensFitter, LensOptions, LensResult

__all__ = ["LensFitter", "LensOptions", "LensResult"]
