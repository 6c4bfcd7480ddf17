"""Batch fits of spectral time series: arrays in, arrays out.

`TemplateFitter` fits many templates (`sncosmo.TimeSeriesSource`: core-collapse supernovae, Hsiao's
SN Ia, kilonovae, or a user's own) to many light curves at once, each with an amplitude, a t0 and,
where asked, a redshift, and says how likely each template is.
"""

from ampel_spark.templates.fitter import TemplateFitter, TemplateResult

__all__ = ["TemplateFitter", "TemplateResult"]
