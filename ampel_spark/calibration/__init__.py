"""Calibration releases: named sets of rules that change or mask photometry before states are made.

`load` reads a release from its file, `release` holds its rules and content hash, and `apply`
applies it to points as flat arrays.
"""
