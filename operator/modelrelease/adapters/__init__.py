"""I/O, one module per outside system; adapters know core and api, never each other."""
