"""Whether records hold: run folders and packs come in, findings go out (`harness verify`), or a pack
(`harness publish`, `harness merge`), or what follows from what trials keep (`harness curvature`).

Nothing here imports a submission or jax: what needs jax, programs and evaluation, is looked at by
`harness.trial.examination` and `curvature` in processes of their own. It may import check, report, campaign and the
rooms below.
"""
