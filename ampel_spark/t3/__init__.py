"""Tier 3: selection by expressions, exports, plots and the report."""
