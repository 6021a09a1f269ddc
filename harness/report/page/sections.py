"""The parts of a board, from the leaderboard to the records, each below a heading."""

from __future__ import annotations

from collections import Counter
from typing import Any
from xml.etree.ElementTree import Element

from harness.report.page import more_tables, tables
from harness.report.page.boards import Board
from harness.report.page.elements import Child, el


def section(board: Board, key: str) -> Element:
    parts = [
        ("changes", "Before and after", _changes(board)),
        ("leaderboard", "Leaderboard", _leaderboard(board, key)),
        ("profiles", "Performance profiles", _profiles(board)),
        ("workloads", "Workloads", _workloads(board, key)),
        ("spent", "Where the time goes", _spent(board)),
        ("points", "Points tried", _points(board, key)),
        ("pairs", "Pairs", _pairs(board)),
        ("terms", "Machine, rules and programs", _terms(board)),
        ("records", "Records", _records(board, key)),
    ]
    shown = [(name, heading, of) for name, heading, of in parts if of is not None]
    contents = [el("li", el("a", heading, href=f"#{key}-{name}")) for name, heading, _ in shown]
    return el(
        "section",
        el("h2", board["name"], id=f"{key}-name"),
        el("p", _about(board), class_="lead"),
        _stale(board),
        el("nav", el("ul", contents), class_="contents", aria_label=f"Contents of {board['name']}"),
        _controls(board, key),
        legend(board),
        [el("section", el("h3", heading, id=f"{key}-{name}"), of, aria_labelledby=f"{key}-{name}")
         for name, heading, of in shown],
        id=key, class_="board", data_board=key, aria_labelledby=f"{key}-name",
    )  # fmt: skip


def _about(board: Board) -> str:
    """Return ruleset, machine and trials in a line."""
    machines = [one["values"] for one in board["surroundings"]]
    parts = [f"Ruleset {board['rules']}"]
    for key, unit in (("processor", ""), ("cores", " cores"), ("jax", "")):
        values = dict.fromkeys(f"{key} {m[key]}" if key == "jax" else f"{m[key]}{unit}" for m in machines if key in m)
        parts += [" and ".join(values)] if values else []
    devices = dict.fromkeys(m["device"] for m in machines if m.get("device") not in (None, "cpu"))
    return ", ".join([*parts, *devices, f"{len(board['records'])} trials"]) + "."


def _stale(board: Board) -> Element | None:
    if not board["stale"]["lines"]:
        return None
    ran = f" What ran is in commit {' and '.join(board['commits'])}." if board["commits"] else ""
    return el(
        "div", el("p", el("strong", "Stale: "), "; ".join(board["stale"]["lines"]), ".", ran),
        class_="note warn", role="note",
    )  # fmt: skip


def baseline_of(board: Board) -> str | None:
    """Return the submission that speed-ups are over at first: AdamW, or one that says that it is a baseline."""
    names = [name for name in board["submissions"] if name in board["scores"][board["clock"]]["ranks"]]
    known = [n for n in names if n == "adamw" or n.startswith("adamw (")] + [
        n for n in names if "baseline" in n.lower()
    ]
    return next(iter(known or names), None)


def _controls(board: Board, key: str) -> Element:
    base = baseline_of(board)
    scored = [name for name in board["submissions"] if name in board["scores"][board["clock"]]["ranks"]]
    clocks = [
        el("label", el("input", type="radio", name=f"{key}-clock", value=clock, checked=clock == board["clock"]), unit)
        for clock, unit in board["clocks"].items()
    ]
    options = [el("option", name, value=name, selected=name == base) for name in scored]
    return el(
        "div",
        el("fieldset", el("legend", "Clock"), el("div", clocks, class_="choices"), class_="clocks"),
        el("label", "Baseline ", el("select", options, class_="baseline")) if scored else None,
        el("label", "Filter rows ", el("input", type="search", class_="filter", placeholder="part of a name")),
        class_="controls", role="region", aria_label="What is shown",
    )  # fmt: skip


def legend(board: Board) -> Element:
    """Return the boxes that show a submission in the plots, or hide it in all of them."""
    toggles = [
        el("label", el("input", type="checkbox", value=name, checked=True), tables.swatch(n), el("span", name))
        for n, name in enumerate(board["submissions"])
    ]
    buttons = [el("button", text, type="button", data_show=what)
               for text, what in (("All", "all"), ("None", "none"), ("Best five", "five"))]  # fmt: skip
    return el(
        "details",
        el("summary", "Submissions in the plots"),
        el("div", toggles, el("span", buttons, class_="choices"), class_="choices toggles", role="group",
           aria_label="Submissions in the plots"),
        open=True, class_="legend",
    )  # fmt: skip


def _leaderboard(board: Board, key: str) -> list[Child]:
    base = baseline_of(board)
    if board["scores"][board["clock"]]["verdicts"]:
        shown: list[Child] = [more_tables.verdicts(board)]
    elif board["standings"]:
        shown = [tables.leaderboard(board, clock, key, base) for clock in board["standings"]]
    else:
        shown = [el("p", "No workload here has a target that ranks.")]
    told: list[Child] = [el("li", note) for note in board["notes"]]
    told += [el("li", note, data_clock=clock, hidden=clock != board["clock"])
             for clock, of in board["clock_notes"].items() for note in of]  # fmt: skip
    return [*shown, el("details", el("summary", f"Notes ({len(board['notes'])})"), el("ul", told)) if told else None]


def _changes(board: Board) -> Child:
    if not board.get("changes"):
        return None
    return [
        el("p", "How many times as fast each submission is now, over all workloads, and whether that may be chance."),
        more_tables.changed(board, *board["packs"]),
    ]


def figure_of(kind: str, caption: str, label: str, *, tools: bool, **attributes: Any) -> Element:
    """Return the place of a plot; the script draws it when it comes into view."""
    buttons = [("Zoom in", "in"), ("Zoom out", "out"), ("Reset", "reset")] if tools else []
    made = [
        el("button", text, type="button", data_do=do, aria_label=f"{text}: {label}")
        for text, do in (*buttons, ("SVG", "svg"))
    ]
    keys = "Arrow keys walk along the measurements, plus and minus zoom, 0 resets. " if tools else ""
    return el(
        "figure",
        el("div", class_="view", tabindex="0" if tools else None, role="group",
           aria_label=f"{label}. {keys}" if tools else label),
        el("div", made, class_="tools"),
        el("figcaption", caption),
        class_="plot", data_kind=kind, data_label=label, **attributes,
    )  # fmt: skip


def _profiles(board: Board) -> Child:
    if not board["standings"]:
        return None
    caption = (
        "For each factor τ, the share of workloads on which a submission took at most τ times the time of the best. "
        "The score is the area below, from 1 to 4."
    )
    return figure_of("profiles", caption, f"Performance profiles of {board['name']}", tools=True)


def _workloads(board: Board, key: str) -> Child:
    axes = [
        el("label", el("input", type="radio", name=f"{key}-axis", value=axis, checked=n == 0), text)
        for n, (axis, text) in enumerate(board["axes"].items())
    ]
    thinned = "Long curves are thinned, but for crossings. " if board["thinned"] else ""
    hint = (
        "A faint line is a seed, a bold one the median of the seeds, which hold their last value after their end. "
        f"Dashed: the target; markers: where it was met. {thinned}Plots begin past the first measurements; zoom out "
        "to see these. Shift and the wheel zoom, drag to move."
    )
    found: list[Child] = [
        el("fieldset", el("legend", "Plots against"), el("div", axes, class_="choices"), class_="axes"),
        el("p", hint, class_="hint"),
    ]
    for workload in board["targets"]:
        label = f"Validation {board['metrics'][workload]} of {workload}"
        lone = all(len(one["y"]) <= 2 for one in board["curves"].get(workload, ()))
        caption = f"Validation {board['metrics'][workload]} on {workload}." + (
            " The published record holds of each trial the measurement that met the target, and the last."
            if lone
            else ""
        )
        found.append(
            el(
                "section",
                el("h4", workload, id=f"{key}-h{list(board['targets']).index(workload)}"),
                figure_of("curves", caption, label, tools=True, data_workload=workload) if board["axes"] else None,
                tables.workload_table(board, workload, key),
                aria_labelledby=f"{key}-h{list(board['targets']).index(workload)}", class_="workload",
            )
        )  # fmt: skip
    return found or None


def _spent(board: Board) -> Child:
    parts = []
    for workload in board["spent"]:
        label = f"Where the time of a trial on {workload} goes"
        drawn = figure_of("spent", f"Mean over the trials on {workload}.", label, tools=False, data_workload=workload)
        table = el("details", el("summary", f"{workload} as a table"), more_tables.spent(board, workload))
        parts.append(el("div", el("h4", workload), drawn, table))
    return el("div", parts, class_="sheets") if parts else None


def _points(board: Board, key: str) -> Child:
    if not board["points"]:
        return None
    cells = dict.fromkeys((one["submission"], one["workload"]) for one in board["points"])
    options = [el("option", f"{name} on {workload}", value=str(n)) for n, (name, workload) in enumerate(cells)]
    return [
        el("label", "Points of ", el("select", options, class_="cell", id=f"{key}-cell")),
        figure_of("parallel", "A line for each point, blue for a slow result, orange for a fast one; thick: the one "
                  "that was chosen. A point that missed the target ends at the top.",
                  "Points tried, parallel coordinates", tools=False),
        el("div", class_="small-plots"),
        el("details", el("summary", "All points as a table"), more_tables.points(board)),
    ]  # fmt: skip


def _pairs(board: Board) -> Child:
    if not board["standings"] or not board["scores"][board["clock"]]["pairs"]:
        return None
    caption = (
        "How many times as fast the row is as the column; purple is faster, orange slower. Pale, with ≈: not "
        "separable, at 5% over all pairs, or not tested."
    )
    shown = [
        el("div", more_tables.pairs(board, clock), data_clock=clock, hidden=clock != board["clock"])
        for clock in board["standings"]
    ]
    return [
        figure_of("pairs", caption, f"Pairs of {board['name']}", tools=False),
        el("details", el("summary", "All pairs as a table, with tests"), shown),
    ]


def _terms(board: Board) -> list[Child]:
    def listed(values: dict[str, str]) -> Element:
        return el("dl", [[el("dt", name), el("dd", value)] for name, value in values.items()])

    sheets = [el("div", el("h4", "Rules"), listed(board["terms"]))]
    for one in board["surroundings"]:
        sheets.append(el("div", el("h4", f"Machine and versions of {one['trials']} trials"), listed(one["values"])))
    found: list[Child] = [el("div", sheets, class_="sheets")]
    if board["workloads"]:
        found.append(more_tables.plain("Workloads", board["workloads"]))
    if board["programs"]:
        table = more_tables.plain("Programs", board["programs"])
        found.append(el("details", el("summary", f"Programs ({len(board['programs'])})"), table))
    return found


def _records(board: Board, key: str) -> Child:
    trials = Counter(row["workload"] for row in board["records"])
    return [
        el(
            "details",
            el("summary", f"{workload} ({trials[workload]} trials)"),
            more_tables.records(board, workload, key),
        )
        for workload in board["targets"]
    ]
