"""Update rules and schedules that optax lacks or gets differently from the reference; shared by submissions.

Hyperparameters come in, optax transformations go out. Each rule is a factory in the style of optax, in the module of
its name: `from harness.optim.muon import muon`. It may import api, errors, jax and optax. Nothing is imported here:
what a submission imports is on its clock.
"""
