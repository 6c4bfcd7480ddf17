"""A simulated archive of ZTF alerts whose truth is known.

`simulate` writes nightly ``ztf_public_YYYYMMDD.tar.gz`` files of packets in the survey's schema
4.02, and beside them ``truth.parquet`` (every object and what is true of it), ``hosts.parquet`` and
``stars.parquet`` (catalogues), and ``simulation.json`` (parameters, versions, hashes of all files).
The same parameters make the same bytes.

What is realistic, and what is not, stands at the head of each module:

- `survey`: telescope, cadence, weather, moon, depth;
- `kinds`, `population`: objects and their shares;
- `lightcurves`, `photometry`: true fluxes, noise, detections;
- `neighbours`, `measurements`: everything else that a packet tells;
- `packets`, `avro`, `cutouts`, `tarball`, `assembly`: how it is written.

In short: times, depths, fluxes, errors, positions, histories and identities hang together as in the
survey and follow from one truth; shares are chosen to be interesting; shapes, scores and image
statistics are drawn to fall where the real archive has them.
"""

from ampel_spark.simulate.record import Simulation
from ampel_spark.simulate.simulation import QUICKSTART, simulate

__all__ = ["QUICKSTART", "Simulation", "simulate"]
