"""Many runs without a clock: points of a search come in; how far each got, the better one or the target go out.

It starts `harness.trial.sweep` by its name and keeps its answers in a record. It may import trial.sweep_messages and
the rooms below trial; no jax.
"""
