"""Measuring search: quality and latency of settings side by side, and the choice of settings.

`trireme eval` and `trireme tune` are thin commands over it. Start reading at `runs.py` (ask),
`evaluation.py` (measure and compare) and `tuning.py` (choose). Asks a cluster through the public
stubs; may import core, deploy and, of the gateway, its pure `gateway.fusion` alone, so that a
setting is tried by the very code that serves it.
"""
