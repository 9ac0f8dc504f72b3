"""Retrievers for the frameworks in which people build on searches; one file for each.

Start with `searching`, which asks a gateway; the others put what it finds into the form of their
framework. Each needs the extra of its name. They know the stubs alone: nothing of the service has
to be installed beside them.
"""
