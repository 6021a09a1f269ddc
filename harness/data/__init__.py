"""Data sets: a name comes in, verified memory-mapped arrays go out, downloaded and prepared once.

It may import machine and errors; no jax.
"""
