"""Slow runs in which things are killed; started by `make faults`."""
