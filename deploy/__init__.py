"""How Trireme is run: `local` on one machine, `cli` for people, `models` for what Triton serves.

May import: `core`, the stubs, and `tests` never. Roles are started as processes, not imported.
"""
