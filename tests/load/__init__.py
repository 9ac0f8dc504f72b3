"""Benchmarks: scripts that start a cluster, measure, and print ratios of one run."""
