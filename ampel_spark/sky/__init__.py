"""Positions on the sky: pixels, dust maps and local catalogues.

`ampel_spark.sky.dust` tells the Milky-Way reddening at a position from a HEALPix map.
"""
