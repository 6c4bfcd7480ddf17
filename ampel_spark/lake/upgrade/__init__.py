"""Lakes of older formats brought to this one, step by step, without reading the archive again."""

from ampel_spark.lake.upgrade.steps import STEPS, Step, upgrade

__all__ = ["STEPS", "Step", "upgrade"]
