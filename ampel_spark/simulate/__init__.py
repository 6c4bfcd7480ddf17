"""A simulated archive of alerts with known truth: ZTF's, and Rubin's.

`simulate` writes nightly ``ztf_public_YYYYMMDD.tar.gz`` files of packets in the survey's schema
4.02. Beside them it writes ``truth.parquet`` (the true values of every object), ``hosts.parquet``
and ``stars.parquet`` (catalogues), and ``simulation.json`` (parameters, versions, hashes of files).
The same parameters make the same bytes.

The docstring of each module says what is realistic and what is not:

- `survey`: telescope, cadence, weather, moon, depth;
- `kinds`, `population`: objects and their shares;
- `lightcurves`, `photometry`: true fluxes, noise, detections;
- `neighbours`, `measurements`: all other fields of a packet;
- `rubin`, `rubin_packets`: Rubin's alerts in schema 11.0 (`simulate_rubin`);
- `packets`, `avro`, `cutouts`, `tarball`, `assembly`: the writing of files.

In short: times, depths, fluxes, errors, positions, histories and identities are consistent, as they
follow from one truth. The shares of kinds are chosen to be interesting. Shapes, scores and image
statistics are drawn from the ranges of the real archive.
"""

from ampel_spark.simulate.record import Simulation
from ampel_spark.simulate.rubin import simulate_rubin
from ampel_spark.simulate.simulation import QUICKSTART, simulate

__all__ = ["QUICKSTART", "Simulation", "simulate", "simulate_rubin"]
