"""Submission and workload: their folders come in, the functions that a trial compiles go out.

It finds and loads folders, draws points of a search space, builds the algorithm and checks its contract. It may import
optim, record and the rooms below, jax, optax and flax; `discovery`, `submission`, `search_space` and `workload` need
none of these three.
"""
