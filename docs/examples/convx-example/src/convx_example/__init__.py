"""An example of a convx plugin package."""
