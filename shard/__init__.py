"""QUERY PATH, leaf: opens published generations and answers every leg of a query.

Start with `service` (what gateways may ask; `wire` translates), then `library` (which generations
are open) and `snapshot` (one open generation). May import: core, the generated stubs. Never another
role.
"""
