"""An author's tools, `harness new` and `harness check`: a submission's folder comes in, findings about it go out.

It looks at files, asks `harness.program` for programs, and has `harness.trial.conformance` run one in a process of its
own. It may import report, campaign and the rooms below; no jax.
"""
