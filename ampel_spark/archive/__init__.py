"""Archive files in: packets decoded, shaped into one schema, committed once, all accounted for."""
