"""The tables of what stands behind a leaderboard: verdicts, pairs, changes, time, points, surroundings, records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from harness.report.page import texts
from harness.report.page.boards import Board
from harness.report.page.elements import el
from harness.report.page.plots import SPAN_GROUPS
from harness.report.page.tables import anchor, name_cell, num, stacked, table


def verdicts(board: Board) -> Element:
    """Return the verdicts on runs of a declared length."""
    head: list[str | tuple[str, bool]] = ["submission", "workload", ("runs", True), ("steps", True), ("mean", True)]
    head += [("standard deviation", True), ("p (one-sided)", True), "verdict", ("median time", True), "why"]
    rows = [
        el(
            "tr",
            name_cell(board, one["submission"], ""),
            el("td", one["workload"], data_v=one["workload"]),
            num(f"{one['runs']} of {one['expected']}", one["runs"]),
            num(texts.whole(one["steps"]), one["steps"]),
            num(texts.metric(one["mean"]), one["mean"]),
            num(texts.metric(one["sd"]), one["sd"]),
            num(texts.p_value(one["p"]), one["p"]),
            el("td", {None: "open", True: "met", False: "not met"}[one["met"]]),
            num(texts.number(one["time"]), one["time"]),
            el("td", one["why"]),
            data_s=one["submission"],
        )
        for one in board["scores"][board["clock"]]["verdicts"]
    ]
    return table("Whether the mean of the final metric meets the target", head, rows, class_="sortable")


def pairs(board: Board, clock: str) -> Element:
    """Return every pair, for those who do not see the heat map."""
    head: list[str | tuple[str, bool]] = [
        "pair",
        ("times as fast", True),
        ("wins", True),
        ("p (Holm)", True),
        "verdict",
    ]
    found = zip(board["scores"][clock]["pairs"], board["standings"][clock]["verdicts"], strict=True)
    rows = [
        el(
            "tr",
            el("th", f"{pair['a']} / {pair['b']}", scope="row", data_v=f"{pair['a']} / {pair['b']}"),
            num(stacked(texts.ratio(pair["ratio"]), texts.spread(pair, pair["range"], 3)), pair["ratio"]),
            num(f"{pair['win_probability']:.0%}", pair["win_probability"]),
            num(texts.p_value(pair["p_holm"]), pair["p_holm"]),
            el("td", text, data_v=text),
        )
        for pair, text in found
    ]
    return table(f"Pairs, the higher rank first; {board['clocks'][clock]}", head, rows, class_="sortable")


def changed(board: Board, before: str, after: str) -> Element:
    """Return what became of each submission between two packs."""
    head: list[str | tuple[str, bool]] = ["submission", (f"{after} over {before}: times as fast", True)]
    head += [("p (Holm)", True), "verdict", *((f"{w}: before → after", True) for w in board["ranked"])]
    rows = [
        el(
            "tr",
            el("th", row["submission"], scope="row", data_v=row["submission"]),
            num(stacked(texts.ratio(row["ratio"]), texts.ends(row["ends"], 3)), row["ratio"]),
            num(texts.p_value(row["p"]), row["p"]),
            el("td", row["verdict"], data_v=row["verdict"]),
            [_before_after(*row["times"][w]) for w in board["ranked"]],
        )
        for row in board["changes"]
    ]
    unit = board["clocks"][board["clock"]]
    return table(f"Before and after, in {unit}: {before} → {after}", head, rows, class_="sortable")


def _before_after(old: float | None, new: float | None) -> Element:
    ratio = old / new if old is not None and new is not None else None
    told = [texts.number(one) if one is not None else "missed" for one in (old, new)]
    return num(stacked(" → ".join(told), texts.ratio(ratio) if ratio else ""), ratio)


def spent(board: Board, workload: str) -> Element:
    """Return where the time of a trial went, in seconds."""
    head: list[str | tuple[str, bool]] = ["submission", *((group, True) for group in SPAN_GROUPS), ("all", True)]
    rows = []
    for name, spans in board["spent"][workload].items():
        sums = [sum(spans.get(span, 0.0) for span in group) for group in SPAN_GROUPS.values()]
        cells = [num(texts.number(value), value) for value in (*sums, sum(sums))]
        rows.append(el("tr", name_cell(board, name, ""), cells, data_s=name))
    return table(f"Mean wall seconds of a trial on {workload}", head, rows, class_="sortable")


def points(board: Board) -> Element:
    """Return every point that was tried."""
    head: list[str | tuple[str, bool]] = ["submission", "workload", "point", ("result", True), "unit", "status"]
    head += [("best metric", True), "chosen"]
    rows = [
        el(
            "tr",
            el("th", one["submission"], scope="row", data_v=one["submission"]),
            el("td", one["workload"], data_v=one["workload"]),
            el("td", hyperparameters(one["values"]), class_="long"),
            num(texts.number(one["result"]) if one["result"] is not None else "missed", one["result"]),
            el("td", one["unit"]),
            el("td", one["status"]),
            num(texts.metric(one["best"]), one["best"]),
            el("td", "chosen" if one["chosen"] else "", data_v="0" if one["chosen"] else "1"),
        )
        for one in board["points"]
    ]
    return table("Every point that was tried, and what it came to", head, rows, class_="sortable")


def hyperparameters(values: dict[str, Any]) -> str:
    """Return a point in a line."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def plain(caption: str, rows: Sequence[dict[str, Any]]) -> Element:
    """Return a table of what records say, a column for each key of the first row."""
    head = [(name, isinstance(value, int)) for name, value in rows[0].items()]
    body = [
        el(
            "tr",
            [
                el("th" if n == 0 else "td", str(value), scope="row" if n == 0 else None, data_v=str(value),
                   class_="num" if isinstance(value, int) else None)
                for n, value in enumerate(row.values())
            ],
        )
        for row in rows
    ]  # fmt: skip
    return table(caption, head, body, class_="sortable")


def records(board: Board, workload: str, key: str) -> Element:
    """Return a row for each trial on a workload."""
    rows = [(n, row) for n, row in enumerate(board["records"]) if row["workload"] == workload]
    rows.sort(key=lambda item: (board["submissions"].index(item[1]["submission"]), item[1]["study"], item[1]["trial"]))
    ours = any("seed" in row for _, row in rows)
    if not ours:
        rows = [(n, row) for n, row in rows if row["counts"]]
    clocks = [clock for clock in board["clocks"] if clock != "steps"]
    head: list[str | tuple[str, bool]] = ["submission", "study/trial", "status"]
    head += [*((board["clocks"][clock], True) for clock in clocks), ("steps", True)]
    head += [("best", True), ("test", True), "seed", "point", "program"] if ours else []
    body = []
    first = {row["submission"]: n for n, row in reversed(rows)}  # where a link to a submission's records leads
    for n, row in rows:
        name = row["submission"]
        record = el("a", row["where"], href=row["href"]) if row["href"] else row["where"]
        body.append(
            el(
                "tr",
                el("th", name, scope="row", id=anchor(board, key, workload, name) if first[name] == n else None),
                el(
                    "td",
                    f"{row['study']}/{row['trial']}",
                    id=f"{key}-r{n}",
                    data_v=f"{row['study']:05}{row['trial']:05}",
                ),
                el("td", row["status"].replace("_", " "), el("small", row.get("reason") or None)),
                [num(texts.number(row["times"].get(clock)), row["times"].get(clock)) for clock in clocks],
                num(texts.whole(row["steps"]), row["steps"]),
                [
                    num(texts.metric(row["best"]), row["best"]),
                    num(texts.metric(row["test"]), row["test"]),
                    el("td", row["seed"]),
                    el("td", hyperparameters(row["hyperparameters"]), class_="long"),
                    el("td", (row["program"] or "older than programs")[:12]),
                ]
                if ours
                else None,
                el("td", record, class_="path"),
                data_s=name,
            )
        )
    return table(f"Trials on {workload}", [*head, "record"], body, class_="sortable")
