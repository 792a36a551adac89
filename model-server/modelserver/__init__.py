"""
Slice metrics for model servers, and the example service of ModelRelease.

`metrics` is what other services lift: counters and histograms that a release can be judged by, slice by slice.
Everything else is the example: real loan applications (`loans`), models trained on them (`train`, `model`), a BentoML
service (`service`) and a client that replays the applications (`traffic`).
"""
