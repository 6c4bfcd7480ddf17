"""Calibration releases: named sets of rules that change or mask photometry, applied before states.

A release is a file (`load`), becomes rules and a content hash (`release`), and is applied to points
as flat arrays (`apply`), or to one point at a time (`plain`).
"""
