"""One index store per format version, as this software wrote it; each must always open.

`python -m tests.golden.write` writes the one of the current format, once, when a format is made.
"""
