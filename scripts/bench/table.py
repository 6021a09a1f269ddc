"""The table of what scripts/bench_gpu.py has measured, beside its goals on a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.journal import Journal

from harness.program import discovery

GOALS = {"lm_books": 0.50, "mae_small_cifar10": 0.40, "resnet18_cifar10": 0.36}  # share of the ceiling
LOOP, TORCH, EVALUATION, SPREAD = 0.98, 1.1, 0.02, 0.01


def show(journal: Journal, workloads: Sequence[str], rows: Sequence[str] = "abcdeg") -> None:
    """Print it as Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in journal.context.items() if name != "small")
    print(f"\n{about}{'; small forms, which say nothing about speed' if journal.context.get('small') else ''}\n")
    print("| row | workload | measured | value | goal |\n|---|---|---|---|---|")
    for row in rows:
        for workload in workloads:
            record = journal.find(row, workload, discovery.find("workloads", workload).source_hash)
            for what, value, goal in lines(row, workload, record["values"]) if record else [("not measured", "-", "")]:
                shown = "f" if what.startswith("evaluation over training") else row
                print(f"| {shown} | {workload} | {what} | {value} | {goal} |")


def lines(row: str, workload: str, v: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (what, value, goal) for each line of a record."""
    if row == "a":
        steps = [
            (
                f"ms a step, {name.removeprefix('step_ms').strip('_').replace('_', ' ') or '1 a call'}",
                f"{value:.3g}",
                "",
            )
            for name, value in v.items()
            if name.startswith("step_ms")
        ]
        return [
            *steps,
            (f"{v['unit']} per second", f"{v['units_per_s']:.4g}", ""),
            ("model TFLOP a step; TFLOP/s", f"{v['model_tflop_per_step']:.4g}; {v['model_tflop_per_s']:.4g}", ""),
            ("bf16 ceiling, TFLOP/s", f"{v['ceiling_tflop_per_s']:.4g}", ""),
            (
                "share of the ceiling",
                f"{v['share_of_ceiling']:.1%}",
                f"{GOALS[workload]:.0%}" if workload in GOALS else "",
            ),
            *((name, text, "") for name, text in v["choices"].items()),
        ]
    if row == "b":
        return [
            ("bare loop, harness, ms a step", f"{v['bare_ms']:.3g}, {v['harness_ms']:.3g}", ""),
            ("harness over bare loop; on its batches", f"{v['ratio']:.3f}; {v['same_ratio']:.3f}", f"{LOOP}"),
            (
                "evaluation over training; with the full splits",
                f"{v['measured']:.1%}; {v['evaluated']:.1%}",
                f"at most {EVALUATION:.0%}",
            ),
        ]
    if row == "c":
        return [
            (f"PyTorch {v['torch']}, harness, ms a step", f"{v['torch_ms']:.3g}, {v['harness_ms']:.3g}", ""),
            ("times as fast as PyTorch", f"{v['times_as_fast']:.2f}", f"{TORCH:g}"),
        ]
    if row == "d":
        ratios = ((name, "-" if r is None else f"{r:.2f}") for name, r in v["step_over_adamw"].items())
        return [("step over AdamW's", ", ".join(f"{name} {text}" for name, text in ratios), "")]
    if row == "e":
        text = f"{v['cold_s']:.1f}, {v['tuned_s']:.1f}, {v['cached_s']:.1f}"
        return [("compile s: cold, autotuned before, cached", text, "")]
    spread = f"{v['spread']:.2%} of {len(v['seconds'])}"
    return [(f"spread of the time {v['what']}", spread, f"below {SPREAD:.0%}")]
