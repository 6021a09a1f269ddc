"""Scores: records of trials come in, times to target, performance profiles, intervals and tests go out.

All are pure functions. It may import campaign.tuned_point, search.targets, program.workload, record, machine.hardware
and errors; no jax.
"""
