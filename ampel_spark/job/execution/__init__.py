"""A resolved job, planned, run, run again and reproduced; its report."""
