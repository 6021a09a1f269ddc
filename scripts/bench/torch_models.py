"""The families of workloads/families in PyTorch, layer for layer and name for name. For the benchmarks only.

A model is made of a workload's specification (workloads/families/spec.py) and returns the mean loss of a batch.

Shapes: B examples, T positions, D width, H heads, K width of a head, P patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from workloads.families import spec as specs


def dtype(spec: specs.GPT | specs.ResNet | specs.MAE) -> torch.dtype:
    """What products and convolutions are computed in."""
    return torch.bfloat16 if spec.dtype == "bfloat16" else torch.float32


class RMSNorm(nn.RMSNorm):
    def __init__(self, width: int):
        super().__init__(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float())


def rotary(x: torch.Tensor) -> torch.Tensor:
    """Queries or keys [B, H, T, K], normalised and turned by their position, in float32."""
    x = F.rms_norm(x.float(), (x.shape[-1],), None, 1e-6)
    T, K = x.shape[2], x.shape[3]
    frequencies = 10_000.0 ** (-torch.arange(K // 2, device=x.device) / (K // 2))
    angles = torch.arange(T, device=x.device)[:, None] * frequencies[None]
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * angles.cos() - two * angles.sin(), two * angles.cos() + one * angles.sin()], dim=-1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool, rotary: bool):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.heads, self.causal, self.rotary = heads, causal, rotary

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = rotary(q).to(v.dtype), rotary(k).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool = False, rotary: bool = False):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = Attention(width, heads, causal=causal, rotary=rotary)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class GPT(nn.Module):
    def __init__(self, spec: specs.GPT):
        super().__init__()
        self.tokens = nn.Embedding(spec.vocabulary, spec.width)
        self.positions = None if spec.rotary else nn.Embedding(spec.length, spec.width)
        block = (spec.width, spec.heads)
        self.blocks = nn.ModuleList([Block(*block, causal=True, rotary=spec.rotary) for _ in range(spec.layers)])
        self.norm = RMSNorm(spec.width)
        self.head = nn.Linear(spec.width, spec.vocabulary, bias=not spec.chunked)
        self.dtype = dtype(spec)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of int64[B, T]."""
        x = self.tokens(inputs)
        if self.positions is not None:
            x = x + self.positions.weight[: inputs.shape[1]]
        x = x.to(self.dtype)
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).float().flatten(0, 1), targets.flatten())


class Conv(nn.Conv2d):
    """A convolution, padded by (kernel - 1) / 2 on both sides as is usual in torch. XLA's "SAME" with stride 2 pads
    behind alone: at the same cost another function, which `as_xla` gives, for checks.
    """

    as_xla = False

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1):
        super().__init__(c_in, c_out, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.as_xla and self.stride == (2, 2) and self.kernel_size == (3, 3):
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, stride=2)
        return super().forward(x)


class ResidualBlock(nn.Module):
    def __init__(self, spec: specs.ResNet, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1, self.conv2 = Conv(c_in, c_out, 3, stride), Conv(c_out, c_out, 3)
        self.norm1, self.norm2 = normalisation(spec, c_out), normalisation(spec, c_out)
        self.shortcut = Conv(c_in, c_out, 1, stride) if c_in != c_out or stride != 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def normalisation(spec: specs.ResNet, channels: int) -> nn.Module:
    """BatchNorm or GroupNorm."""
    return nn.GroupNorm(spec.groups, channels, eps=1e-6) if spec.norm == "group" else nn.BatchNorm2d(channels)


class ResNet(nn.Module):
    def __init__(self, spec: specs.ResNet):
        super().__init__()
        self.stem = Conv(spec.channels, spec.widths[0], 3)
        self.norm = normalisation(spec, spec.widths[0])
        layers, c_in = [], spec.widths[0]
        for stage, c_out in enumerate(spec.widths):
            for block in range(spec.blocks):
                layers.append(ResidualBlock(spec, c_in, c_out, 2 if stage and not block else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(c_in, spec.classes)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of float32[B, C, H, W] and int64[B]."""
        x = self.blocks(F.relu(self.norm(self.stem(images))))
        return F.cross_entropy(self.head(x.float().mean((2, 3))).float(), labels)


class MAE(nn.Module):
    def __init__(self, spec: specs.MAE):
        super().__init__()
        values, D, E = spec.channels * spec.patch**2, spec.width, spec.decoder_width
        self.embed, self.bridge = nn.Linear(values, D), nn.Linear(D, E)
        self.encoder = nn.ModuleList([Block(D, spec.heads) for _ in range(spec.layers)])
        self.decoder = nn.ModuleList([Block(E, spec.decoder_heads) for _ in range(spec.decoder_layers)])
        self.encoder_norm, self.decoder_norm = RMSNorm(D), RMSNorm(E)
        self.mask_token = nn.Embedding(1, E)
        self.head = nn.Linear(E, values)
        self.register_buffer("encoder_table", torch.randn(spec.patches, D))  # any numbers take the same time
        self.register_buffer("decoder_table", torch.randn(spec.patches, E))
        self.spec, self.dtype = spec, dtype(spec)

    def forward(self, images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """The loss of float32[B, H, W, C], the patches in the order int64[B, P], the visible ones first."""
        B, P, V, size = len(images), self.spec.patches, self.spec.visible, self.spec.patch
        side = self.spec.size // size
        cut = images.view(B, side, size, side, size, -1).permute(0, 1, 3, 2, 4, 5)
        patches = cut.reshape(B, P, -1)
        patches = patches.gather(1, order[:, :, None].expand_as(patches))
        x = self.embed(patches[:, :V]) + self.encoder_table[order[:, :V]].to(self.dtype)
        for block in self.encoder:
            x = block(x)
        x = self.bridge(self.encoder_norm(x))
        x = torch.cat([x, self.mask_token.weight.to(x.dtype).expand(B, P - V, -1)], dim=1)
        x = x + self.decoder_table[order].to(x.dtype)
        for block in self.decoder:
            x = block(x)
        masked = patches[:, V:].float()
        wanted = (masked - masked.mean(-1, keepdim=True)) / (masked.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return (self.head(self.decoder_norm(x[:, V:])).float() - wanted).square().mean()


FAMILIES = {"GPT": GPT, "ResNet": ResNet, "MAE": MAE}
