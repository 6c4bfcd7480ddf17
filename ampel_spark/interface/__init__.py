"""The way in from Python: ``import ampel_spark as aps``. Spark starts only where it is asked for."""
