"""The way in from Python, ``import ampel_spark as aps``; Spark starts only where asked for."""
