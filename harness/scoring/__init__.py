"""Scores as pure functions of run records: what counts, time to target, performance profiles, the table."""
