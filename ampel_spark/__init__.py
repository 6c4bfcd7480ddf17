"""Archive-scale, reproducible transient science on alert streams, with Spark and Delta Lake."""

__all__ = ["__version__"]

__version__ = "0.1.0"
