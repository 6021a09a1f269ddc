"""Calls of linear algebra have jax's own shapes, and no others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import export

from harness.program import calls, operations
from harness.program.limits import ALLOWED_CALLS

WIDE, SQUARE = jax.ShapeDtypeStruct((3, 4, 6), jnp.float32), jax.ShapeDtypeStruct((5, 4, 4), jnp.float32)
HONEST = {
    "qr": (jnp.linalg.qr, WIDE),
    "qr, complete": (lambda x: jnp.linalg.qr(x, mode="complete"), WIDE),
    "cholesky": (jnp.linalg.cholesky, SQUARE),
    "eigh": (jnp.linalg.eigh, SQUARE),
    "svd": (lambda x: jnp.linalg.svd(x, full_matrices=False), WIDE),
    "svd, full": (jnp.linalg.svd, WIDE),
    "singular values": (lambda x: jnp.linalg.svd(x, compute_uv=False), WIDE),
    "solve": (lambda x: jnp.linalg.solve(x, x[..., :2]), SQUARE),
    "inverse": (jnp.linalg.inv, SQUARE),
    "triangular": (lambda x: jax.lax.linalg.triangular_solve(x, x[:, :2], lower=True), SQUARE),
    "triangular, left": (lambda x: jax.lax.linalg.triangular_solve(x, x[..., :2], left_side=True), SQUARE),
}


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("name", HONEST)
def test_what_jax_writes_is_let_through(name: str, platform: str) -> None:
    function, shape = HONEST[name]
    text = export.export(jax.jit(function), platforms=[platform])(shape).mlir_module()
    found = operations.count(text).custom_calls
    assert [call for call in found if not ALLOWED_CALLS.fullmatch(call)] == []


@pytest.mark.parametrize(
    ("target", "operands", "results", "options"),
    [
        ("lapack_sgeqrf_ffi", [(64, 64)], [(64, 64), (1,)], {}),
        ("lapack_sgeqrf_ffi", [(2, 64, 64)], [(2, 64, 64), (1, 64)], {}),
        ("lapack_sorgqr_ffi", [(4, 6), (4,)], [(4, 6)], {}),
        ("lapack_sorgqr_ffi", [(6, 4), (4,)], [(4, 4)], {}),
        ("lapack_spotrf_ffi", [(4, 6)], [(4, 6), ()], {}),
        ("lapack_ssyevd_ffi", [(4, 4)], [(4, 4), (1,), ()], {}),
        ("lapack_sgetrf_ffi", [(4, 6)], [(4, 6), (3,), ()], {}),
        ("lapack_strsm_ffi", [(2, 2), (4, 4)], [(4, 4)], {"side": ord("L")}),
        ("lapack_strsm_ffi", [(4, 4), (4, 2)], [(4, 2)], {"side": ord("R")}),
        ("lapack_sgesdd_ffi", [(4, 6)], [(4, 6), (4,), (4, 4), (4, 6), ()], {"mode": ord("A")}),
        ("lapack_sgesdd_ffi", [(4, 6)], [(4, 6), (4,), (1, 1), (1, 1), ()], {"mode": ord("S")}),
        ("cusolver_gesvd_ffi", [(6, 4)], [(6, 4), (4,), (), (), ()], {"compute_uv": 1, "full_matrices": 0}),
    ],
)
def test_what_would_be_overrun_is_not(target, operands, results, options) -> None:
    assert ALLOWED_CALLS.fullmatch(target)
    assert not calls.fit(target, operands, results, options)
