"""This machine: nothing comes in; hardware, versions, the card's counters, and settings for XLA and malloc go out.

It may import nothing of the harness; `backend` alone imports jax.
"""
