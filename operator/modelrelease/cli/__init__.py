"""The console script ``modelrelease``."""
