"""Exported models answer like sentence-transformers, for every trunk, pooling, length and company.

Versions stand side by side, and what cannot be exported is refused. Start with tiny.py, which makes
small random models on the spot, and served.py, which runs what the exporter wrote as the services
would.
"""
