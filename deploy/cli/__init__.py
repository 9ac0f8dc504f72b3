"""The `trireme` command. One file per subcommand; `client` holds what they share.

Start with `__main__`. Speaks to a cluster through the public stubs alone, like any other client.
"""
