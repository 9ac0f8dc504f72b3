"""QUERY PATH, leaf: opens published generations and answers the dense and the lexical leg.

Start with `service` (what gateways may ask), then `library` (which generations are open) and
`snapshot` (one open generation). May import: core, the generated stubs. Never another role.
"""
