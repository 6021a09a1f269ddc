"""Has LAPACK write 64 numbers into an array of one, which jaxlib does not notice.

It would gain a write of its own choice behind that array, in the process that holds data, clock and target.
"""

import optax

from ._rewriting import first_in_main, rewrite_step

MATRIX = "%m = stablehlo.constant dense<1.0> : tensor<64x64xf32>"
CALL = (
    "%qr:2 = stablehlo.custom_call @lapack_sgeqrf_ffi(%m) {mhlo.backend_config = {}, operand_layouts = "
    "[dense<[0, 1]> : tensor<2xindex>], result_layouts = [dense<[0, 1]> : tensor<2xindex>, dense<0> : tensor<1xindex>]}"
    " : (tensor<64x64xf32>) -> (tensor<64x64xf32>, tensor<1xf32>)"
)


def build(task, hp):
    rewrite_step(lambda text: first_in_main(text, MATRIX, CALL, used=[("%qr#1", "tensor<1xf32>")]))
    return optax.sgd(0.1)
