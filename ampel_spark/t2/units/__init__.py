"""The units that come with the package."""
