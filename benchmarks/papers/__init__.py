"""Analyses of the papers made again: ``python -m benchmarks.papers NAME``; results lie beside."""
