"""Training: the shipped reranker, and a user's own encoders and rerankers.

    python -m deploy.training.reranker   train the shipped reranker again
    python -m deploy.training.evaluate   measure a reranker behind the hybrid first stage
    python -m deploy.training.finetune   fine-tune a model on your own pairs and export it

Start reading at `reranker.py`. May import core, deploy.models and deploy.evaluation; no role
imports it.
"""
