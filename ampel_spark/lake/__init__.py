"""The Delta tables: their columns, versions and commits, and the journal of runs."""
