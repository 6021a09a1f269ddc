"""The model, loss and data of `lm_grammar`: a pre-norm GPT (Radford et al. 2019) in float32.

Shapes: B windows, T positions, D model width, H heads, K head width, F hidden width of the MLP, V characters.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.nnx_adapter import Model, embedding, matrix, vector
from harness.workload import Splits, Workload, WorkloadInfo

from .grammar import ALPHABET, corpus

T, D, H, LAYERS = 64, 64, 2, 2
V = len(ALPHABET)
SLICE, VALIDATION, TEST = 320, 1024, 1024  # windows
SEEDS = {"train": 11, "validation": 12, "test": 13}
EVALUATION_CHUNK = 64  # windows run at a time: the activations stay in the cache of a CPU


class Attention(nnx.Module):
    """Causal self-attention with one fused projection to queries, keys and values."""

    def __init__(self, rngs: nnx.Rngs, out_std: float):
        info = matrix(in_axes=(0,), out_axes=(2,), stack_axes=((1, "qkv"),))
        self.qkv = nnx.LinearGeneral(
            D, (3, D), use_bias=False, kernel_init=nnx.initializers.normal(D**-0.5), kernel_metadata=info, rngs=rngs
        )
        self.out = _linear(D, D, out_std, rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        B, t, _ = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).reshape(B, t, 3, H, D // H).transpose(2, 0, 3, 1, 4)
        logits_BHTT = jnp.einsum("bhtk,bhsk->bhts", q_BHTK, k_BHTK) * (D // H) ** -0.5
        causal_11TT = jnp.tril(jnp.ones((t, t), bool))[None, None]
        weights_BHTT = jax.nn.softmax(jnp.where(causal_11TT, logits_BHTT, -jnp.inf))
        y_BHTK = jnp.einsum("bhts,bhsk->bhtk", weights_BHTT, v_BHTK)
        return self.out(y_BHTK.transpose(0, 2, 1, 3).reshape(B, t, D))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with ReLU^2 (So et al. 2021, arXiv:2109.08668) in the MLP."""

    def __init__(self, rngs: nnx.Rngs):
        # GPT-2's scaling: what is added to the residual stream 2 * LAYERS times starts that much smaller.
        out_std = (2 * LAYERS) ** -0.5
        self.norm1 = _norm(rngs)
        self.attention = Attention(rngs, out_std * D**-0.5)
        self.norm2 = _norm(rngs)
        self.up = _linear(D, 4 * D, D**-0.5, rngs)
        # E[relu(z)^4] = 3/2 for a standard normal z.
        self.down = _linear(4 * D, D, out_std * (1.5 * 4 * D) ** -0.5, rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD))
        h_BTF = jnp.square(jax.nn.relu(self.up(self.norm2(x_BTD))))
        return x_BTD + self.down(h_BTF)


class GPT(nnx.Module):
    """Learned positions, RMSNorm (Zhang and Sennrich 2019), an output layer of its own that starts near zero."""

    def __init__(self, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.5)
        self.characters = nnx.Embed(V, D, embedding_init=init, embedding_metadata=embedding(), rngs=rngs)
        self.positions = nnx.Embed(T, D, embedding_init=init, embedding_metadata=embedding(), rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = _norm(rngs)
        self.head = nnx.Linear(
            D,
            V,
            kernel_init=nnx.initializers.normal(0.1 * D**-0.5),
            kernel_metadata=matrix(ParamKind.HEAD),
            bias_metadata=vector(ParamKind.BIAS),
            rngs=rngs,
        )

    def __call__(self, inputs_BT: jax.Array) -> jax.Array:
        """Return the logits, float32[B, T, V]."""
        positions_1TD = self.positions(jnp.arange(inputs_BT.shape[1]))[None]
        x_BTD = self.characters(inputs_BT) + positions_1TD
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))


def make(info: WorkloadInfo) -> Workload:
    """Return the workload. A batch is {"inputs": int32[B, T], "targets": int32[B, T]}."""
    model = Model(GPT)

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        logits_BTV = model.bind(params, model_state, train=train)(batch["inputs"])
        return _cross_entropy(logits_BTV, batch["targets"], label_smoothing).mean(axis=1), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def losses_B(tokens_T1: jax.Array) -> jax.Array:
            inputs, targets = _shifted(tokens_T1[None])
            return _cross_entropy(model.bind(params, model_state, train=False)(inputs), targets).mean()

        mean = jax.lax.map(losses_B, arrays["tokens"], batch_size=EVALUATION_CHUNK).mean()
        return {"loss": mean, "above_floor": mean - info.floor}

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        logits_BTV = model.bind(params, model_state, train=True)(batch["inputs"])
        return dict(batch) | {"targets": jax.random.categorical(key, logits_BTV).astype(jnp.int32)}

    return Workload(
        info=info,
        init=model.init,
        param_info=model.param_info,
        splits=lambda: splits(info.num_train_examples),
        batch=batch,
        loss=loss,
        evaluate=evaluate,
        loss_options={"label_smoothing": 0.0},
        sample_targets=sample_targets,
    )


def splits(train_windows: int) -> Splits:
    """Return {"tokens": uint8[windows, T + 1]} for each split: side by side, from a text with a seed of its own."""

    def windows(split: str, count: int) -> np.ndarray:
        return corpus(count * (T + 1), SEEDS[split]).reshape(count, T + 1)

    validation = windows("validation", VALIDATION)
    return Splits(
        train={"tokens": windows("train", train_windows)},
        validation_slice={"tokens": validation[:SLICE]},
        validation={"tokens": validation},
        test={"tokens": windows("test", TEST)},
    )


def batch(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
    """Return the windows `index`, int32[B], split into inputs and the characters that follow them."""
    del key  # no augmentation
    inputs, targets = _shifted(train["tokens"][index])
    return {"inputs": inputs, "targets": targets}


def _shifted(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    tokens = tokens.astype(jnp.int32)
    return tokens[:, :-1], tokens[:, 1:]


def _cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Return the losses in nats, the shape of `targets`; smoothing mixes the target with the uniform distribution."""
    log_p = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return -(1 - label_smoothing) * hit - label_smoothing * log_p.mean(axis=-1)


def _linear(n: int, m: int, std: float, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        n, m, use_bias=False, kernel_init=nnx.initializers.normal(std), kernel_metadata=matrix(), rngs=rngs
    )


def _norm(rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(D, scale_metadata=vector(ParamKind.NORM), rngs=rngs)
