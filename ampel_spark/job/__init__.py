"""The YAML job: checked, planned, run, recorded."""
