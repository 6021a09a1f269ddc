"""The models of the suite `gpu` in PyTorch, layer for layer as in workloads/families. For the benchmark only.

Shapes: B examples, T positions, D width, H heads, K width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.gain, 1e-6)


def rotary(x: torch.Tensor) -> torch.Tensor:
    """Queries or keys [B, H, T, K], normalised and turned by their position, in float32."""
    x = F.rms_norm(x.float(), (x.shape[-1],), None, 1e-6)
    T, K = x.shape[2], x.shape[3]
    frequencies = 10_000.0 ** (-torch.arange(K // 2, device=x.device) / (K // 2))
    angles = torch.arange(T, device=x.device)[:, None] * frequencies[None]
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * angles.cos() - two * angles.sin(), two * angles.cos() + one * angles.sin()], dim=-1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.heads, self.causal = heads, causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if self.causal:
            q, k = rotary(q).to(v.dtype), rotary(k).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class GPT(nn.Module):
    def __init__(self, vocabulary: int, layers: int, width: int, heads: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList([Block(width, heads, causal=True) for _ in range(layers)])
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The mean loss of windows [B, T + 1]."""
        x = self.tokens(batch[:, :-1]).to(torch.bfloat16)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if c_in != c_out or stride != 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, widths: tuple[int, ...], blocks: int):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        layers, c_in = [], widths[0]
        for stage, c_out in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(c_in, c_out, 2 if stage and not block else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(c_in, 10)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(images))))
        return F.cross_entropy(self.head(x.float().mean((2, 3))).float(), labels)


class MAE(nn.Module):
    def __init__(
        self, layers: int, width: int, heads: int, decoder_layers: int, decoder_width: int, decoder_heads: int,
        patch: int = 4, side: int = 8, visible: int = 16,
    ):  # fmt: skip
        super().__init__()
        values = 3 * patch**2
        self.embed, self.bridge = nn.Linear(values, width), nn.Linear(width, decoder_width)
        self.encoder = nn.ModuleList([Block(width, heads, causal=False) for _ in range(layers)])
        self.decoder = nn.ModuleList([Block(decoder_width, decoder_heads, causal=False) for _ in range(decoder_layers)])
        self.encoder_norm, self.decoder_norm = RMSNorm(width), RMSNorm(decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(decoder_width))
        self.head = nn.Linear(decoder_width, values)
        self.register_buffer("encoder_table", torch.randn(side**2, width))  # any numbers take the same time
        self.register_buffer("decoder_table", torch.randn(side**2, decoder_width))
        self.patch, self.side, self.visible = patch, side, visible

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        B, P, V = len(images), self.side**2, self.visible
        cut = images.view(B, self.side, self.patch, self.side, self.patch, 3).permute(0, 1, 3, 2, 4, 5)
        patches = cut.reshape(B, P, -1)
        order = torch.rand(B, P, device=images.device).argsort(dim=1)
        patches = patches.gather(1, order[:, :, None].expand_as(patches))
        x = self.embed(patches[:, :V]) + self.encoder_table[order[:, :V]].to(torch.bfloat16)
        for block in self.encoder:
            x = block(x)
        x = self.bridge(self.encoder_norm(x))
        x = torch.cat([x, self.mask_token.to(x.dtype).expand(B, P - V, -1)], dim=1)
        x = x + self.decoder_table[order].to(x.dtype)
        for block in self.decoder:
            x = block(x)
        masked = patches[:, V:].float()
        wanted = (masked - masked.mean(-1, keepdim=True)) / (masked.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return (self.head(self.decoder_norm(x[:, V:])).float() - wanted).square().mean()
