"""Imports a module from beside its folder that is a link to an array: what is imported may be read.

It would gain the data under the name of a source.
"""

from pathlib import Path

import optax


def build(task, hp):
    from ..loot import images  # noqa: F401

    return optax.sgd(float(len(Path(__file__).parents[1].joinpath("loot.py").read_bytes())))
