"""All trials of one request: a configuration and the records so far come in, a plan and its finished trials go out.

It decides who runs where and starts `harness.trial.worker` by its name. It may import search and the rooms below; no
jax; `config` alone imports Hydra.
"""
