"""Tier 1: states, the sets of datapoints that a channel may see at a time, and light curves."""
