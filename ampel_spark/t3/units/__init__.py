"""The units of T3 that come with the package."""
