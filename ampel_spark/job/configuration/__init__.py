"""A job file, read, checked and resolved: paths absolute, defaults filled in, units built."""
