"""The tables that rank: the leaderboard on each clock, and what `harness score` shows of each workload."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from harness.report.page import texts
from harness.report.page.boards import Board
from harness.report.page.elements import Child, el
from harness.report.scores import missed_text


def table(
    caption: Child, head: Sequence[str | tuple[str, bool]], rows: Iterable[Element], **attributes: Any
) -> Element:
    """Return a table in a box that scrolls sideways by itself. A heading is a text, and whether it sorts numbers; its
    button is of use with a script alone.
    """
    cells = []
    for one in head:
        text, numeric = one if isinstance(one, tuple) else (one, False)
        button = el("button", text, el("span", class_="arrow", aria_hidden="true"), type="button", class_="sort")
        cells.append(el("th", button, scope="col", class_="num" if numeric else None))
    made = el("table", el("caption", caption), el("thead", el("tr", cells)), el("tbody", list(rows)), **attributes)
    label = caption if isinstance(caption, str) else "table"
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=label)


def num(text: Child, value: float | None, *, kind: str = "num", **attributes: Any) -> Element:
    """Return a cell that sorts by a number; one without a number sorts last."""
    return el("td", text, class_=kind, data_v="" if value is None else f"{value:.7g}", **attributes)


def name_cell(board: Board, name: str, key: str) -> Element:
    """Return the heading of a submission's row."""
    badge = el("abbr", "stale", class_="badge", title="Its code is another one here now, or not here")
    return el(
        "th", swatch(board["submissions"].index(name)), el("span", name, class_="name"),
        [" ", badge] if name in board["stale"]["submissions"] else None,
        scope="row", data_v=name, id=key or None,
    )  # fmt: skip


def swatch(place: int) -> Element:
    """Return a sample of a submission's line and marker; the script draws it."""
    return el("span", class_="swatch", data_place=place, aria_hidden="true")


def leaderboard(board: Board, clock: str, key: str, baseline: str | None) -> Element:
    """Return the scores on one clock, with the time on each workload that ranks."""
    scores, standings = board["scores"][clock], board["standings"][clock]
    tested, ranked = standings["tested"], board["ranked"]
    kind = " [95%]" if standings["interval"] else " (range)" if standings["range"] else ""
    head: list[str | tuple[str, bool]] = [("rank", True)] if tested else []
    head += ["submission", (f"score{kind}", True), ("× best", True), (f"× {baseline}", True)]
    head += [("targets reached", True), *((w, True) for w in ranked)]
    order = sorted(scores["ranks"], key=lambda n: (scores["ranks"][n], n))
    rows = []
    for name in order:
        score, mean = scores["scores"][name], scores["mean_ratios"][name]
        times = scores["time_to_target"][name]
        reached = sum(times.get(w) is not None for w in ranked)
        rows.append(
            el(
                "tr",
                num(standings["rank"][name], scores["ranks"][name]) if tested else None,
                name_cell(board, name, ""),
                num(stacked(f"{score['score']:.3f}", texts.spread(score, scores["ranges"][name], 3)), score["score"]),
                num(texts.ratio(mean["ratio"]), mean["ratio"]),
                speed_up_cell(standings["speed_ups"].get(baseline or "", {}).get(name)),
                num(f"{reached} of {len(ranked)}", reached),
                [time_cell(board, clock, name, workload, key) for workload in ranked],
                data_s=name,
            )
        )
    unit = board["clocks"][clock]
    what = f"Scores and median times to the target in {unit}, of {board['name']}"
    found = table(what, head, rows, class_="sortable", data_baseline=True)
    return el("div", found, data_clock=clock, hidden=clock != board["clock"])


def speed_up_cell(told: dict[str, Any] | None) -> Element:
    """Return how many times as fast as the baseline, and over how many workloads."""
    if told is None or told["value"] is None:
        return num(texts.DASH, None, data_speed_up=True)
    value = told["value"]
    over = f"over {told['workloads']}"
    return num(stacked(texts.ratio(value), texts.ends(told["ends"], 2), over), value, data_speed_up=True)


def time_cell(board: Board, clock: str, name: str, workload: str, key: str, *, count: bool = True) -> Element:
    """Return a median time, its spread, its ratio to the best and how many seeds reached, linked to the records."""
    scores, cell = board["scores"][clock], board["cells"].get(workload, {}).get(name)
    value = scores["time_to_target"].get(name, {}).get(workload)
    if cell is None:
        return num("not run", None)
    own = scores["time_intervals"].get(name, {}).get(workload)
    spread = texts.ends([own["low"], own["high"]]) if own and any(end is not None for end in own.values()) else ""
    best = min((t for row in scores["time_to_target"].values() if (t := row.get(workload)) is not None), default=None)
    notes = [texts.ratio(value / best) if value is not None and best else ""]
    notes += [f"{cell['reached']} of {cell['studies']}"] if count and (board["several"] or value is None) else []
    text = texts.whole if clock == "steps" else texts.number
    told = text(value) if value is not None else missed(cell, board["target_values"].get(workload))
    link = el("a", told, href=f"#{anchor(board, key, workload, name)}", title=f"records of {name} on {workload}")
    return num(
        stacked(link, spread, " · ".join(filter(None, notes))), value, kind="num miss" if value is None else "num"
    )


def missed(cell: dict[str, Any], level: float | None) -> str:
    """What stands in place of a time."""
    if not cell["finished"]:
        return str(cell["status"]).replace("_", " ")
    return "missed" if cell["missed_best"] is None else f"missed ({missed_text(cell['missed_best'], level)})"


def stacked(main: Child, *notes: str) -> list[Child]:
    """Return a number with what stands below it, a line each."""
    return [main, *(el("small", note) for note in notes if note)]


def anchor(board: Board, key: str, workload: str, name: str) -> str:
    """Return the id of the records of a submission on a workload."""
    return f"{key}-w{list(board['targets']).index(workload)}-s{board['submissions'].index(name)}"


def workload_table(board: Board, workload: str, key: str) -> Element:
    """Return what `harness score` shows of one workload: all clocks, steps, memory, the test split."""
    cells = board["cells"][workload]
    clocks = [c for c in board["clocks"] if any(cell["times"].get(c) is not None for cell in cells.values())]
    metric = board["metrics"][workload]
    memory = any(cell.get("peak_bytes") is not None for cell in cells.values())
    test = any(cell["test"] is not None for cell in cells.values())
    head: list[str | tuple[str, bool]] = ["submission", *((board["clocks"][clock], True) for clock in clocks)]
    head += [("seeds reached", True)]
    head += [("steps", True)] if "steps" not in clocks else []
    head += [("MiB", True)] if memory else []
    head += [(f"test {metric}", True)] if test else []
    head += ["status"]
    times = {name: cell["times"].get(board["clock"]) for name, cell in cells.items()}
    order = sorted(cells, key=lambda n: (times[n] is None, times[n] or 0.0, n))
    rows = [
        el(
            "tr",
            name_cell(board, name, ""),
            [time_cell(board, clock, name, workload, key, count=False) for clock in clocks],
            num(f"{cell['reached']} of {cell['studies']}", cell["reached"]),
            num(texts.whole(cell["steps"]), cell["steps"]) if "steps" not in clocks else None,
            num(texts.mebibytes(cell.get("peak_bytes")), cell.get("peak_bytes")) if memory else None,
            num(texts.metric(cell["test"]), cell["test"]) if test else None,
            el("td", cell["status"].replace("_", " "), data_v=cell["status"]),
            data_s=name,
        )
        for name, cell in ((n, cells[n]) for n in order)
    ]
    return table(f"{workload}: {board['targets'][workload]}; times to the target", head, rows, class_="sortable")
