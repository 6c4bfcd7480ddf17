"""Calibration: named releases of corrections, applied as pure functions."""
