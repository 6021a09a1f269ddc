"""A ladder as a board of its own: what `harness ladder` wrote last of a workload, plotted, with its table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from harness.campaign.scale_ladder import FOLDER
from harness.errors import RunFolderError
from harness.record import plain_data, run_folder
from harness.report import leaderboard
from harness.report import scale_ladder as shown
from harness.report.page import plots, sections, tables, texts
from harness.report.page.boards import Board
from harness.report.page.elements import Child, el
from harness.search import scale_ladder
from harness.search.scale_ladder import Ladder, SpeedUp

TITLES = {"x": "times the least amount of data", "y": "speed-up (times the data)"}
APART = 0.02  # of the x of submissions that are side by side, as a share


def files(place: Path) -> list[Path]:
    """Return the ladders below a folder of runs."""
    return sorted((place / FOLDER).glob("*.json")) if place.is_dir() else []


def alone(place: Path) -> bool:
    """Whether a folder holds ladders, and no run folder or published records."""
    return bool(files(place)) and not run_folder.find_trials(place) and not leaderboard.boards(place)


def boards(places: Iterable[Path]) -> list[Board]:
    """Return a board for each ladder. Raises RunFolderError for a damaged file."""
    return [of_ladder(read(file)) for place in dict.fromkeys(places) for file in files(place)]


def read(file: Path) -> Ladder:
    """Return a ladder. Raises RunFolderError where its file is damaged."""
    try:
        held = json.loads(file.read_text())["ladder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{file} is damaged ({error}); remove it, and type `harness ladder` again") from None
    return plain_data.read(Ladder, held, f"{file} is damaged", RunFolderError)


def of_ladder(ladder: Ladder) -> Board:
    """Return the board of a ladder."""
    found = scale_ladder.speed_ups(ladder)
    names = list(ladder.submissions)
    looks = {name: plots.look(place) for place, name in enumerate(names)}
    on = dict(zip(ladder.widths, ladder.workloads, strict=True))
    steps = dict(zip(ladder.ratios, ladder.steps, strict=True))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ladder.workloads}
    for one in found:
        if one.width is not None and one.ratio is not None and one.value is not None:
            place = names.index(one.submission)
            rows[on[one.width]].append(_row(one, steps[one.ratio], place - len(names) / 2))
    return {
        "name": f"ladder of {ladder.workload}",
        "submissions": names,
        "looks": looks,
        "records": [],
        "stale": {"lines": [], "submissions": []},
        "ladder": rows,
        "domain": _domain([row for of in rows.values() for row in of]),
        "widths": {name: width for width, name in on.items()},
        "axes": {"ratio": TITLES["x"]},
        "titles": {"ladder": TITLES["y"]},
        "of": ladder,
        "found": found,
        "lines": shown.lines(ladder),
    }


def _row(one: SpeedUp, steps: int, aside: float) -> dict[str, Any]:
    """Return a point of the plot; an open end goes as far as any plot."""
    low, high = (one.low or 1e-3, one.high or 1e3) if one.interval else (one.value, one.value)
    value, ends = shown.value_and_ends(one)
    return {
        "s": one.submission,
        "x": (one.ratio or 0.0) * (1 + APART * aside),
        "y": one.value,
        "low": low,
        "high": high,
        "e": one.extrapolated,
        "told": [f"speed-up: {value}", *([f"95% interval: {ends}"] if ends else []), f"training steps: {steps:,}"],
    }


def _domain(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return what all widths are plotted over: the values, and intervals up to twice as far."""
    values = [1.0, *(row["y"] for row in rows)]
    low, high = min(values), max(values)
    lows, highs = (max(row["low"], low / 2) for row in rows), (min(row["high"], high * 2) for row in rows)
    return 0.95 * min([low, *lows]), 1.05 * max([high, *highs])


def view(board: Board) -> dict[str, Any]:
    """Return what the script of the page needs, but for the plot's specification."""
    return {
        "names": board["submissions"],
        "looks": list(board["looks"].values()),
        "clock": "",
        "axes": board["axes"],
        "titles": board["titles"],
        "domains": dict.fromkeys(board["ladder"], board["domain"]),
        "ladder": board["ladder"],
        "metrics": {},
        "targets": {},
        "speed_ups": {},
        "points": [],
        "groups": plots.SPAN_GROUPS,
        "dashes": plots.DASHES,
        "shapes": plots.SHAPES,
    }


def section(board: Board, key: str) -> Element:
    """Return the board as a part of the page."""
    ladder: Ladder = board["of"]
    figures: list[Child] = []
    for name, width in board["widths"].items():
        if board["ladder"][name]:
            caption = (
                f"Width {width}: {name}. Bars: 95% intervals over {ladder.seeds} seeds. Dashed: {ladder.baseline}. "
            )
            caption += "Hollow: beyond the amounts that the baseline was run with."
            label = f"Speed-up over {ladder.baseline} on {name}"
            made = sections.figure_of("ladder", caption, label, tools=False, data_workload=name)
            figures.append(el("div", el("h4", f"Width {width}"), made))
    box = el("input", type="search", class_="filter", placeholder="part of a name")
    lead = f"Speed-ups over {ladder.baseline} on {len(ladder.widths)} widths and {len(ladder.ratios)} amounts of data, "
    lead += f"{ladder.seeds} seeds. Not scored: runs of tuning seeds, without a clock."
    return el(
        "section",
        el("h2", board["name"], id=f"{key}-name"),
        el("p", lead, class_="lead"),
        el("div", el("label", "Filter rows ", box), class_="controls", role="region", aria_label="What is shown"),
        sections.legend(board),
        el("ul", [el("li", line) for line in board["lines"]]),
        el("div", figures, class_="sheets"),
        _table(board),
        id=key, class_="board", data_board=key, aria_labelledby=f"{key}-name",
    )  # fmt: skip


def _table(board: Board) -> Element:
    ladder: Ladder = board["of"]
    head: list[str | tuple[str, bool]] = ["submission", ("width", True), ("data", True)]
    head += [(ladder.metric, True), ("speed-up", True), "note"]
    rows = []
    for one in board["found"]:
        value, _ = shown.value_and_ends(one)
        ends = texts.ends([one.low, one.high], 2, without="open") if one.interval else ""
        rows.append(
            el(
                "tr",
                tables.name_cell(board, one.submission, ""),
                tables.num("all" if one.width is None else str(one.width), one.width),
                tables.num("all" if one.ratio is None else f"{one.ratio:g}×", one.ratio),
                tables.num(texts.metric(one.final), one.final),
                tables.num(tables.stacked(value, ends), one.value),
                el("td", one.why),
                data_s=one.submission,
            )
        )
    return tables.table(f"Speed-ups over {ladder.baseline}", head, rows, class_="sortable")
