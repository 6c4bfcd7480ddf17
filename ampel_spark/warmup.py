"""Compile all kernels: ``python -m ampel_spark.warmup``, as the set-up does.

What is compiled here need not be in the first run, where two workers that need the same kernel at
the same time would both compile it.
"""

from __future__ import annotations

__all__ = ["warm_all"]

_SCHEMA = '{"type": "record", "name": "one", "fields": [{"name": "x", "type": "double"}]}'


def warm_all() -> None:
    """Make all compiled kernels ready, in the folders where other processes find them."""
    from ampel_spark.archive.reading.avro import decode, program_of
    from ampel_spark.features import warm as warm_features
    from ampel_spark.salt import warm
    from ampel_spark.sky.matching import match

    warm()
    match([0.0], [0.0], [0.0], [0.0], 1.0, engine="grid")
    warm_features()
    program = program_of(_SCHEMA)
    assert program is not None
    decode(program, [bytes(8)])


if __name__ == "__main__":
    warm_all()
