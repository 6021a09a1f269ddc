"""What people and programs read: scores, plans, logs and folders come in; tables, JSON, CSV and progress go out.

It changes no score. It may import scoring, campaign and the rooms below; no jax.
"""
