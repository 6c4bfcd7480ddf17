"""Tier 1: what belongs together, as known when: states and their light curves."""
