"""Filters: which documents a search may find, said in the language of AIP-160.

    parsing.parse          text -> tree, or what is wrong with it and where
    typing.check           a tree against what is known of a collection's attributes
    evaluation.matching    a tree over the columns of one segment -> one truth value per document
    columns, filtering     where the attributes of a segment lie, and answers remembered
    schema                 what is known of a collection's attributes

Start with `tree`, which says what the operators mean. Imports nothing of the roles.
"""
