"""Archive files in: packets decoded, shaped into one schema, committed once, every one accounted for."""
