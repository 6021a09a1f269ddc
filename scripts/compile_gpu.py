"""Compile the suite `gpu` for an H200 on a machine without one: does it compile, how much memory does it take, in what
precision are its products?

    python scripts/compile_gpu.py                                 AdamW on all three workloads: some minutes
    python scripts/compile_gpu.py lm_books --submissions muon apollo
    python scripts/compile_gpu.py --submissions all               half an hour
    python scripts/compile_gpu.py --attention xla                 the fallback

Programs are exported as for a trial, and XLA compiles them for a card that is only described
(`jax.experimental.topologies`). That takes jax's CUDA wheels (in the checkout: pip install -e '.[gpu]'), and neither
GPU nor driver. Nothing is timed on it: kernels are XLA's defaults, not
what its autotuner would choose, and whether cuDNN's attention gives the right numbers is tried out on a card only. Nor
can it compile here what `device.deterministic=true` runs, for which XLA asks a library on the card for its kernels.

Each row is a submission on a workload: seconds to compile its step here; GiB on the card during a step, a step's
temporary part of it, and during evaluation; calls of cuDNN's attention, forward and backward; matrix products and
convolutions of more than a million numbers, by what they multiply; operations of a step's products, in the exported
program; bytes that its compiled kernels read and write (the body of a loop once). The exit code is 1 if something does
not compile or is larger than the card.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections import Counter
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.machine import flags
from harness.program import discovery
from harness.program.manifest import Way

WORKLOADS = ("lm_books", "resnet18_cifar10", "mae_small_cifar10")
CARD_BYTES = 150_754_820_096
H200 = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  device_memory_size: {CARD_BYTES} memory_bandwidth: 4800000000000 l2_cache_size: 52428800
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 }}
device_description_str: "NVIDIA H200"
"""
"""The card as XLA's GpuTargetConfigProto describes one; NVIDIA's data sheet and CUDA's table of capability 9.0."""

HEAD = (
    "| workload | submission | compile s | step GiB | temporary | evaluation | attention | bf16 products | float32 "
    "| TFLOP | GB moved |"
)
LARGE = 1_000_000  # numbers in an operand or the result
_SHAPE = r"\(?(\w+)\[([\d,]*)\]"
_NAMED = re.compile(rf"%?([\w.-]+)(?:: | = ){_SHAPE}")  # a parameter in a header, an instruction in a line
_PRODUCT = re.compile(rf"= {_SHAPE}.* (?:dot|convolution|custom-call)\(%?([\w.-]+), %?([\w.-]+)[,)]")
_CALLED = re.compile(r'custom_call_target="([^"]+)"')


def main() -> int:
    """Compile and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD", help="default: all three")
    parser.add_argument("--submissions", nargs="+", default=["adamw"], metavar="NAME", help="or all (default: adamw)")
    parser.add_argument("--attention", choices=("cudnn", "xla"), default="cudnn", help="default: %(default)s")
    args = parser.parse_args()
    every = list(discovery.find_all("submissions"))
    names = every if args.submissions == ["all"] else args.submissions
    folders = [discovery.find("submissions", name) for name in names]
    # The flags of a GPU, on the backend of a CPU: that of a GPU does not start without one.
    os.environ |= flags.environment("gpu", deterministic=False) | {"JAX_PLATFORMS": "cpu"}
    card = described_card()
    print(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|", flush=True)
    failed = False
    for name in args.workloads or WORKLOADS:
        for folder in folders:
            try:
                row, fits = compiled(discovery.find("workloads", name), folder, card, args.attention)
            except (HarnessError, RuntimeError) as error:  # of one row; XLA's are RuntimeErrors
                row, fits = [f"failed: {str(error).strip().splitlines()[0]}"], False
            failed |= not fits
            print(f"| {' | '.join([name, folder.name, *row])} |", flush=True)
    return int(failed)


def described_card() -> Any:
    """Return where to place what is compiled. Raises ConfigError where jax's CUDA wheels are missing."""
    import jax
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc("", "cuda", target_config=H200, topology="1x1x1")
    except Exception as error:
        raise ConfigError(
            f"XLA cannot compile for a GPU here ({str(error).splitlines()[0]}); jax's CUDA wheels are needed, in the "
            "checkout: pip install -e '.[gpu]'"
        ) from error
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


def compiled(place: discovery.Folder, folder: discovery.Folder, card: Any, way: Way) -> tuple[list[str], bool]:
    """Return the cells of a row after the names, and whether nothing is wrong with it."""
    import jax

    from harness.program import processes, submission
    from harness.trial.programs import compile_programs

    own = processes.workload_program(place, platform="gpu")
    hp, data = submission.read_info(folder).defaults, discovery.load_data(place)
    budget_steps = data.info.budget_steps
    (program,) = processes.submission_programs(place, folder, [hp], budget_steps, platform="gpu")
    if way == "cudnn" and not program.manifest.has(way):
        if own.manifest.has(way) or own.manifest.declared.get(way):
            raise ConfigError(str(program.manifest.declared.get(way) or own.manifest.declared.get(way)))
        way = "xla"  # its attention is too short for another
    train, part = (
        {
            name: jax.ShapeDtypeStruct(shape, jax.numpy.dtype(dtype), sharding=card)
            for name, (shape, dtype) in data.shapes[split].items()
        }
        for split in ("train", "validation_slice")
    )
    programs = compile_programs(data, own, program, train, part, platform="gpu", way=way, sharding=card)
    step = programs.steps[data.info.batch_size].compiled
    text = step.as_text()  # type: ignore[attr-defined]
    (step_bytes, temporary), (evaluation, _) = memory(step), memory(programs.evaluate)
    kinds = products(text)
    forward, backward = attention_calls(text)
    seconds = sum(s for name, s in programs.compile_s.items() if name.startswith("step"))
    row = [f"{seconds:.0f}", *(f"{size / 2**30:.2f}" for size in (step_bytes, temporary, evaluation))]
    row += [f"{forward} + {backward}", str(kinds["bf16"]), str(kinds["f32"])]
    operations = max(
        facts.products
        for function, facts in program.manifest.functions.items()
        if function.startswith("step") and function.endswith(".cudnn") == (way == "cudnn")
    )
    row += [f"{operations / 1e12:.3f}", f"{moved(step) / 1e9:.2f}"]
    return row, max(step_bytes, evaluation) < CARD_BYTES


def memory(program: Any) -> tuple[int, int]:
    """Return (bytes that a program takes while it runs, those of them that it needs for a time)."""
    m = program.memory_analysis()
    held = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return held + m.temp_size_in_bytes, m.temp_size_in_bytes


def moved(program: Any) -> float:
    """Return the bytes that the compiled kernels read and write, by XLA's cost analysis of the optimised HLO; the body
    of a loop counts once. That of the executable itself needs a card: the CPU's client counts the same HLO.
    """
    import jax
    from jax._src.lib import xla_client

    (module,) = program.runtime_executable().hlo_modules()
    client = jax.devices("cpu")[0].client
    return float(xla_client._xla.hlo_module_cost_analysis(client, module)["bytes accessed"])


def attention_calls(text: str) -> tuple[int, int]:
    """Return how many times compiled HLO calls cuDNN's fused attention, (forward, backward)."""
    targets = Counter(_CALLED.findall(text))
    calls = {name: count for name, count in targets.items() if "fmha" in name}
    backward = sum(count for name, count in calls.items() if "Backward" in name)
    return sum(calls.values()) - backward, backward


def products(text: str) -> Counter[str]:
    """Return how many large products and convolutions compiled HLO holds, by the dtype of what is multiplied: the wider
    one, where they differ.
    """
    found: Counter[str] = Counter()
    for computation in re.split(r"\n(?=%|ENTRY )", text):
        shapes = {name: (dtype, numbers(sizes)) for name, dtype, sizes in _NAMED.findall(computation)}
        for line in computation.splitlines():
            product, called = _PRODUCT.search(line), _CALLED.search(line)
            if product is None or (called and not re.search(r"gemm|conv|matmul", called[1])):
                continue
            multiplied = [shapes[name] for name in product.groups()[2:]]
            if max(numbers(product[2]), *(count for _, count in multiplied)) > LARGE:
                dtypes = {dtype for dtype, _ in multiplied}
                found["f32" if "f32" in dtypes else min(dtypes)] += 1
    return found


def numbers(sizes: str) -> int:
    """Return how many numbers an array of shape "4,512" holds."""
    return math.prod(int(size) for size in sizes.split(",") if size)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
