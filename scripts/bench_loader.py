"""How fast the loader reads token shards, and which share of a step that is at an H100's step rate.

    python scripts/bench_loader.py                    # shards that it makes, of random tokens, in a temporary folder
    python scripts/bench_loader.py --folder DIR       # the shards *.bin of a folder: FineWeb's, on the disk to be used

It reads as `lm_fineweb` does in training, all examples of 100 steps at a time, at random and sorted, in one thread.
Shards that it makes are in the page cache; a disk is measured by --folder with shards that were not read before.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from harness.data import shards
from harness.program import discovery

PEAK = 989e12  # FLOP/s of an H100 SXM in bf16, dense, by its data sheet
USED = 0.45  # the part of it that a step is supposed to reach; estimated


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="read the shards of this folder")
    parser.add_argument("--shards", type=int, default=2, help="shards to make (default 2)")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens of each (default 20 million)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to read (default 5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or make(Path(made), args.shards, args.tokens)
        measure(sorted(folder.glob("*.bin")), args.seconds)
    return 0


def make(folder: Path, count: int, tokens: int) -> Path:
    """Write shards of random tokens; return their folder."""
    rng = np.random.default_rng(0)
    for n in range(count):
        header = np.zeros(256, "<i4")
        header[:3] = shards.MAGIC, shards.VERSION, tokens
        drawn = rng.integers(0, 50_257, tokens, np.uint16)
        (folder / f"train_{n}.bin").write_bytes(header.tobytes() + drawn.astype("<u2").tobytes())
    return folder


def measure(paths: list[Path], seconds: float) -> None:
    """Read for so long, and print the rate and the arithmetic of its share."""
    folder = discovery.find("workloads", "lm_fineweb")
    workload = discovery.load_workload(folder)
    data = discovery.load_data(folder)
    (_, length), _ = data.shapes["train"]["tokens"]
    windows = shards.Windows(paths, length, 50_257)
    rows = data.info.batch_size * 100
    rng, done, wall, cpu = np.random.default_rng(1), 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        windows[np.sort(rng.integers(0, len(windows), rows, np.int32))]
        done += rows * (length - 1)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{len(paths)} shards, {len(windows)} windows of {length} tokens; {done / 1e6:.0f} M tokens in {wall:.2f} s")
    print(f"{done / wall / 1e6:.1f} M tokens/s by one thread, {done / cpu / 1e6:.1f} M tokens/s a core's second")
    assert workload.flops is not None
    tokens = data.info.batch_size * (length - 1)
    step = workload.flops * data.info.batch_size
    step_s = step / (PEAK * USED)
    read_s = tokens / (done / wall)
    print(f"a step of {data.info.batch_size} windows: {tokens} tokens, {step / 1e12:.1f} TFLOP")
    print(f"at {USED:.0%} of {PEAK / 1e12:.0f} TFLOP/s: {1000 * step_s:.1f} ms, {tokens / step_s / 1e6:.2f} M tokens/s")
    print(f"reading it: {1000 * read_s:.2f} ms, {read_s / step_s:.1%} of the step, by a thread beside it")
    print(f"copying it to the card at 25 GB/s (PCIe 5, estimated): {1000 * 2 * tokens / 25e9:.4f} ms")


if __name__ == "__main__":
    sys.exit(main())
