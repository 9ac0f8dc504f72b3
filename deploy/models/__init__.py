"""Models as files: TorchScript export, and the small reranker this project trains and ships.

Start with export.py; train_reranker.py tells how the shipped weights were made and
evaluate_reranker.py what they are worth. Imports none of the roles.
"""
