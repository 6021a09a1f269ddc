"""The plots of a board on paper: SVG and PDF files, from the specifications that the page draws."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.report.page import curves, plots
from harness.report.page.boards import Board
from harness.report.page.document import library

Rows = list[dict[str, Any]]


def write(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Write every plot of the boards into a folder; return the files. Raises ConfigError where that cannot be."""
    found, written = library(), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, board in enumerate(boards):
            alike = sum(_slug(other["name"]) == _slug(board["name"]) for other in boards[:number])
            title = _slug(board["name"]) + (f"-{alike + 1}" if alike else "")
            for name, spec in of_board(board):
                text = json.dumps(spec)
                for suffix, made in (
                    ("svg", found.vegalite_to_svg(text).encode()),
                    ("pdf", found.vegalite_to_pdf(text)),
                ):
                    file = folder / f"{title}-{_slug(name)}.{suffix}"
                    file.write_bytes(made)
                    written.append(file)
    except OSError as error:
        raise ConfigError(f"cannot write figures to {folder}: {error}; choose another folder with --figures") from None
    return written


def of_board(board: Board) -> Iterator[tuple[str, plots.Spec]]:
    """Yield the name and the specification, with its data, of each plot of a board on its ranking clock."""
    if "ladder" in board:
        yield from _of_ladder(board)
        return
    looks, clock = board["looks"], board["clock"]
    if board["standings"]:
        yield "profiles", filled(plots.profiles(looks, page=False), {"profile": profile_rows(board, clock)})
        if board["scores"][clock]["pairs"]:
            yield "pairs", filled(plots.pairs(looks, page=False), {"pairs": pair_rows(board, clock)})
    axis = next(iter(board["axes"]), None)
    for workload in board["curves"] if axis else ():
        target = board["target_values"].get(workload)
        texts = {"@x": board["axes"][axis], "@y": f"validation {board['metrics'][workload]} of {workload}"}
        domain = curves.domain([one["y"] for one in board["curves"][workload]], target, board["modes"][workload])
        yield (
            f"curves-{workload}",
            filled(plots.curves(looks, page=False), curve_rows(board, workload, str(axis)), texts, domain),
        )
    for workload, told in board["spent"].items():
        yield f"time-{workload}", filled(plots.spent(looks, page=False), {"spent": spent_rows(told)})


def _of_ladder(board: Board) -> Iterator[tuple[str, plots.Spec]]:
    spec = plots.ladder(board["looks"], page=False)
    for name, rows in board["ladder"].items():
        texts = {"@x": board["axes"]["ratio"], "@y": f"{board['titles']['ladder']}, {name}"}
        if rows:
            yield name, filled(spec, {"rungs": rows}, texts, board["domain"])


def filled(
    spec: plots.Spec,
    data: Mapping[str, Rows],
    texts: Mapping[str, str] | None = None,
    domain: tuple[float, float] | None = None,
) -> plots.Spec:
    """Return a specification with its data, titles and first domain in place."""
    made = copy.deepcopy(spec)

    def fill(node: Any) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if value == "@domain":
                if domain is None:
                    del node[key]
                else:
                    node[key] = list(domain)
            elif key == "data" and isinstance(value, dict) and set(value) == {"name"}:
                node[key] = {"values": data[value["name"]]}
            elif isinstance(value, str) and value in (texts or {}):
                node[key] = (texts or {})[value]
            elif isinstance(value, (dict, list)):
                fill(value)

    fill(made)
    return made


def profile_rows(board: Board, clock: str) -> Rows:
    """Return the corners of the performance profiles."""
    profiles = board["standings"][clock]["profiles"]
    return [{"s": name, "x": x, "y": y} for name, corners in profiles.items() for x, y in corners]


def pair_rows(board: Board, clock: str) -> Rows:
    """Return both halves of the heat map."""
    rows = []
    for pair in board["scores"][clock]["pairs"]:
        for a, b, value in ((pair["a"], pair["b"], pair["ratio"]), (pair["b"], pair["a"], 1 / pair["ratio"])):
            apart = bool(pair["separable"])
            text = f"{'' if apart else '≈'}{value:.0f}" if value >= 10 else f"{'' if apart else '≈'}{value:.2f}"
            rows.append({"a": a, "b": b, "v": value, "t": text, "sep": apart, "tip": ""})
    return rows


def curve_rows(board: Board, workload: str, axis: str) -> dict[str, Rows]:
    """Return the data of a workload's curves against one axis."""
    target = board["target_values"].get(workload)
    rows: dict[str, Rows] = {
        "seeds": [],
        "medians": [],
        "hits": [],
        "target": [] if target is None else [{"y": target}],
    }
    for one in board["curves"][workload]:
        at = one["x"].get(axis)
        for n, y in enumerate(one["y"] if at else ()):
            if y is None:
                continue
            row = {"s": one["s"], "x": at[n], "y": y}
            rows["seeds"].append(row | {"r": one["r"]})
            rows["hits"] += [row] if n == one["hit"] and one["counts"] else []
    for name, (xs, ys) in board["medians"].get(workload, {}).get(axis, {}).items():
        rows["medians"] += [{"s": name, "x": x, "y": y} for x, y in zip(xs, ys, strict=True)]
    return rows


def spent_rows(told: Mapping[str, Mapping[str, float]]) -> Rows:
    """Return where the time of each submission's trials went, by group of spans."""
    return [
        {"s": name, "k": group, "n": n, "v": sum(spans.get(span, 0.0) for span in of)}
        for name, spans in told.items()
        for n, (group, of) in enumerate(plots.SPAN_GROUPS.items())
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "board"
