"""Runs all of Trireme on one machine.

Start with `cluster`, which starts the roles and keeps them running; `triton` starts the Triton
server that comes in the nvidia-pytriton wheel, and `backends/pytorch/model.py` serves TorchScript
inside it. `children` sees to it that no process outlives its parent. May import core and
deploy.models.
"""
