"""Benchmarks: charlstm beside other ways to do the same. ``make bench`` writes results.md."""
