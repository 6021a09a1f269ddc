"""How fast the loader reads token shards or decodes photographs, and which share of a step that is at an H100's rate.

    python scripts/bench_loader.py                    # shards that it makes, of random tokens, in a temporary folder
    python scripts/bench_loader.py --folder DIR       # the shards *.bin of a folder: FineWeb's, on the disk to be used
    python scripts/bench_loader.py images             # JPEG files that it draws
    python scripts/bench_loader.py images --others    # and by worker processes, and by grain where that is installed

Tokens are read as `lm_fineweb` does in training, all examples of 100 steps at a time, at random and sorted, in one
thread. Shards that it makes are in the page cache; a disk is measured by --folder with shards not read before.

Photographs are decoded as for `resnet50_imagenet`. Those drawn are smooth shapes with some noise, which makes JPEG
files of 500 x 375 pixels as large as ImageNet's, about 110 kB. They are in the page cache too.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from harness.data import image_folder, jpeg, shards
from harness.machine.hardware import usable_cores
from harness.program import discovery

PEAK = 989e12  # FLOP/s of an H100 SXM in bf16, dense, by its data sheet
USED = 0.45  # the part of it that a step is supposed to reach; estimated
ASSUMED = (2500, 6000)  # images a second that an H100 trains a ResNet-50 on, in bf16: assumed, not measured here
SIZES = ((500, 375), (250, 188), (1000, 750))  # width and height in pixels; the first is the usual one in ImageNet


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("tokens", "images"), default="tokens", help="(default tokens)")
    parser.add_argument("--others", action="store_true", help="images: measure other ways to decode, too")
    parser.add_argument("--folder", type=Path, help="read the shards of this folder")
    parser.add_argument("--shards", type=int, default=2, help="shards to make (default 2)")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens of each (default 20 million)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to read (default 5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if args.what == "images":
            measure_images(Path(made), args.seconds, others=args.others)
            return 0
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


def measure_images(folder: Path, seconds: float, *, others: bool) -> None:
    """Draw, decode for so long each, and print rates and the arithmetic of the share."""
    info = discovery.workload_info(discovery.find("workloads", "resnet50_imagenet"))
    spec = discovery.load(discovery.find("workloads", "resnet50_imagenet"))
    (_, side, *_), _ = discovery.load_data(discovery.find("workloads", "resnet50_imagenet")).shapes["train"]["image"]
    print(f"to {side} x {side} pixels; images/s of wall time, and a core's second of processor")
    rates = {}
    for size in SIZES:
        files = draw(folder / f"{size[0]}x{size[1]}", *size)
        kilobytes = files.lengths.mean() / 1000
        for threads in sorted({1, 2, usable_cores()}):
            wall, cpu = rate(jpeg.Images(files, side, jpeg.squeezed, threads), len(files), seconds)
            rates[size, threads] = cpu
            print(f"{size[0]} x {size[1]} ({kilobytes:.0f} kB), {threads} threads: {wall:.0f}, {cpu:.0f}", flush=True)
        if size == SIZES[0]:
            held_ms = alone(files, side)
            print(f"of this one thread at a time: {held_ms:.2f} ms an image, so at most {1000 / held_ms:.0f} images/s")
            if others:
                measure_others(files, side, seconds)
    per_core = rates[SIZES[0], max(threads for size, threads in rates if size == SIZES[0])]
    rows = 1 + max(info.dispatch_steps["gpu"], 1) / spec.WINDOW_STEPS  # a window goes on for one call more
    batch = info.batch_size
    for assumed in ASSUMED:
        step_s, decode_s = batch / assumed, batch * rows / per_core
        print(f"if an H100 trains on {assumed} images/s (assumed): a step of {batch} takes {1000 * step_s:.0f} ms;")
        print(
            f"  decoding {batch * rows:.0f} images takes {decode_s:.2f} s of a core: {decode_s / step_s:.1f} keep up,"
        )
        print(f"  and 16 cores decode in {decode_s / 16 / step_s:.0%} of the step's time, beside it;")
        copy_s = batch * rows * side * side * 3 / 25e9
        print(f"  copying to the card at 25 GB/s (PCIe 5, estimated): {1000 * copy_s:.0f} ms, {copy_s / step_s:.0%}")


def draw(folder: Path, width: int, height: int, count: int = 48) -> image_folder.Files:
    """Draw photographs into a folder."""
    folder.mkdir()
    rng, names = np.random.default_rng(0), [f"{n}.jpg" for n in range(count)]
    for name in names:
        pixels = rng.normal(118, 5, (height, width, 1)) + np.zeros(3)
        for cells, deviation in ((4, 70), (12, 45), (40, 28), (120, 18)):
            for colour in range(3):
                coarse = Image.fromarray(rng.normal(0, deviation, (cells, cells)).astype(np.float32))
                pixels[..., colour] += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=95)
    contents = [(folder / name).read_bytes() for name in names]
    return image_folder.Files(
        folder, np.array(names, "S"), np.zeros(count, np.uint16), np.tile(np.uint16([height, width]), (count, 1)),
        np.array([len(content) for content in contents]), np.array([zlib.crc32(content) for content in contents]),
    )  # fmt: skip


def rate(images: Any, count: int, seconds: float) -> tuple[float, float]:
    """Return images a second of wall time, and a second of processor of this process."""
    rng, done, wall, cpu = np.random.default_rng(1), 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        images[rng.integers(0, count, 256)]
        done += 256
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


def alone(files: image_folder.Files, side: int, times: int = 200) -> float:
    """Return milliseconds an image of what holds the interpreter's lock: opening the file, copying pixels."""
    content, square = files.read(0), Image.new("RGB", (side, side))
    began = time.process_time()
    for _ in range(times):
        with Image.open(io.BytesIO(content), formats=jpeg.FORMATS):
            np.asarray(square)
    return 1000 * (time.process_time() - began) / times


def measure_others(files: image_folder.Files, side: int, seconds: float) -> None:
    """Print the rates of worker processes, whose arrays come by a pipe, and of grain's; in wall time alone."""
    one = jpeg.Images(files, side, jpeg.squeezed, 1)
    for workers in (1, 2):
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(one.__getitem__, [np.arange(2)] * workers))  # they are there
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                for part in pool.map(one.__getitem__, np.array_split(np.arange(256) % len(files), 4 * workers)):
                    done += len(part)
            print(f"{workers} worker processes: {done / (time.perf_counter() - began):.0f}", flush=True)
    try:
        import grain.python as grain
        from absl import flags
    except ImportError:
        print("grain: not installed")
        return
    flags.FLAGS(sys.argv[:1])  # its worker processes read flags

    class Decode(grain.MapTransform):  # type: ignore[misc]
        def map(self, row: int) -> np.ndarray:
            return one[np.array([row % len(files)])][0]

    for workers in (0, 1, 2):
        loader = grain.DataLoader(
            data_source=grain.RangeDataSource(0, 10**6, 1),
            sampler=grain.IndexSampler(10**6, shuffle=True, seed=0, shard_options=grain.NoSharding(), num_epochs=1),
            operations=[Decode(), grain.Batch(64)],
            worker_count=workers,
        )
        batches = iter(loader)
        next(batches)
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            done += len(next(batches))
        print(f"grain, {workers} workers: {done / (time.perf_counter() - began):.0f}")


if __name__ == "__main__":
    sys.exit(main())
