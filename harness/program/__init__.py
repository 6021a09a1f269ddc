"""Submission and workload: their folders come in, programs in the store go out.

It finds and loads folders, draws points of a search space, and exports what they hold by processes that have no data
and no clock. It may import optim, record and the rooms below, jax, optax and flax; `discovery`, `submission`,
`search_space`, `workload`, `processes`, `confinement`, `sandbox`, `store` and `manifest` need none of these three.
"""
