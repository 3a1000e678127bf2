"""Benchmarks: figures of ours beside a baseline, in the same run. `make bench` prints them all."""
