"""Models as files: what sentence-transformers saved to Triton's repository; the shipped reranker.

Start with export.py, which tells the path. Reading a directory (model_files.py, modules.py,
sentence_model.py, pair_model.py, sparse_model.py) needs no PyTorch; building.py and what it uses
does. versions.py holds what versions of one name must share. Imports none of the roles.
"""
