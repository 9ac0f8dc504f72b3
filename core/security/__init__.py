"""Who may call, what they may do and how much, and the certificates of every connection.

Start with `identity.py` (who calls) and `tls.py` (connections). May import core only. Nothing here
writes a key, a token or a part of one into a log or an error.
"""
