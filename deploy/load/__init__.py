"""Load on a running cluster: queries that come when they are due, whatever the answers do.

`trireme load` is a thin command over it. Start reading at `run.py` (what is measured, and how
capacity is looked for), then `sender.py` (one process that sends) and `tally.py` (what came back).
`page.py` draws the report, `locustfile.py` is a scenario for locust, `batching.py` measures how one
model's batching is best set in Triton. Asks a cluster through the public stubs; may import core and
deploy.
"""
