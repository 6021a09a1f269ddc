"""What submissions share that write StableHLO of their own in place of what was traced."""

import dataclasses

from jax import export
from jax._src.export import _export
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir


def rewrite_step(change):
    """Have the text of the step be `change(text)`, whatever was traced."""
    real = export.Exported.serialize

    def serialize(self, *args, **kwargs):
        if self.fun_name != "step":
            return real(self, *args, **kwargs)
        with mlir.make_ir_context():
            data = _export._module_to_bytecode(ir.Module.parse(change(self.mlir_module())))
        return real(dataclasses.replace(self, mlir_module_serialized=data), *args, **kwargs)

    export.Exported.serialize = serialize


def first_in_main(text, *lines, used=()):
    """Return a module with further lines at the beginning of its main function; `used` are (value, type) of theirs that
    are not to be left out.
    """
    start = text.index("{\n", text.index("func.func public @main")) + 2
    kept = [
        f"%kept{i} = stablehlo.custom_call @Sharding({value}) {{has_side_effect = true}} : ({of}) -> {of}"
        for i, (value, of) in enumerate(used)
    ]
    return text[:start] + "".join(f"    {line}\n" for line in (*lines, *kept)) + text[start:]
