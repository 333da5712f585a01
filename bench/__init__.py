"""Benchmarks of charlstm against alternatives. ``make bench`` writes results.md."""
