"""Benchmarks beside the peers and the naive way, opt-in: make bench."""
