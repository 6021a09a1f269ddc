"""Writes products of matrices as an older operation, and as a call that XLA makes any operation of.

It would gain a gradient that no count finds: in `eval_variables`, which may take none.
"""

import optax

from ._rewriting import first_in_main, rewrite_step

MATRIX = "%m = stablehlo.constant dense<1.0> : tensor<4x4xf32>"
OLDER = "%older = stablehlo.dot %m, %m : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>"
CALL = (
    "%call = stablehlo.custom_call @mhlo.dot_general(%m, %m) {mhlo.attributes = {}, mhlo.version = 1 : i64} : "
    "(tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>"
)


def build(task, hp):
    used = [("%older", "tensor<4x4xf32>"), ("%call", "tensor<4x4xf32>")]
    rewrite_step(lambda text: first_in_main(text, MATRIX, OLDER, CALL, used=used))
    return optax.sgd(0.1)
