"""The custom resources in Python: what users write (spec) and read (status), and nothing else."""
