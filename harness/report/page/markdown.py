"""The leaderboards as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report import scale_ladder
from harness.report.page import texts
from harness.report.page.boards import Board


def written(boards: Sequence[Board]) -> str:
    """Return a table for each board, on its ranking clock, what has changed between two, and the notes."""
    parts = (part for board in boards for part in (_ladder(board) if "ladder" in board else _board(board)))
    return "\n\n".join(parts) + "\n"


def _board(board: Board) -> list[str]:
    clock = board["clock"]
    scores, standings = board["scores"][clock], board["standings"].get(clock)
    parts = [
        f"### {plain(board['name'])}",
        f"Rules `{board['rules']}`, times to the target in {board['clocks'][clock]}.",
    ]
    if board.get("changes"):
        parts.append(_changes(board))
    if scores["verdicts"]:
        head = ["submission", "workload", "runs", "steps", "mean", "p (one-sided)", "verdict"]
        words = {None: "open", True: "met", False: "not met"}
        rows = [
            [plain(one["submission"]), plain(one["workload"]), f"{one['runs']} of {one['expected']}",
             texts.whole(one["steps"]), texts.metric(one["mean"]), texts.p_value(one["p"]), words[one["met"]]]
            for one in scores["verdicts"]
        ]  # fmt: skip
        parts.append(_table(head, rows, 2))
    elif standings:
        parts.append(_leaderboard(board, clock))
    else:
        parts.append("No workload here has a target that ranks.")
    if board["stale"]["lines"]:
        parts.append(f"**Stale**: {plain('; '.join(board['stale']['lines']))}.")
    notes = "\n".join(f"- {plain(note)}" for note in board["notes"])
    return [*parts, f"<details><summary>Notes</summary>\n\n{notes}\n\n</details>"] if notes else parts


def _ladder(board: Board) -> list[str]:
    head = ["submission", "width", "data", plain(board["of"].metric), "speed-up", "95%"]
    rows = [
        [
            plain(one.submission),
            "all" if one.width is None else str(one.width),
            "all" if one.ratio is None else f"{one.ratio:g}",
            texts.metric(one.final),
            *scale_ladder.value_and_ends(one),
        ]
        for one in board["found"]
    ]
    return [f"### {plain(board['name'])}", _table(head, rows, 1), "\n".join(f"- {plain(s)}" for s in board["lines"])]


def _leaderboard(board: Board, clock: str) -> str:
    scores, standings = board["scores"][clock], board["standings"][clock]
    tested, ranked = standings["tested"], board["ranked"]
    kind = " [95%]" if standings["interval"] else " (range)" if standings["range"] else ""
    head = [*(["rank"] if tested else []), "submission", f"score{kind}", "× best", *map(plain, ranked)]
    rows = []
    for name in sorted(scores["ranks"], key=lambda n: (scores["ranks"][n], n)):
        score, stale = scores["scores"][name], " (stale)" if name in board["stale"]["submissions"] else ""
        times = []
        for workload in ranked:
            value, cell = scores["time_to_target"][name].get(workload), board["cells"][workload].get(name)
            count = f" ({cell['reached']} of {cell['studies']})" if cell and (board["several"] or value is None) else ""
            times.append(f"{texts.number(value)}{count}" if cell else "not run")
        rows.append(
            [
                *([standings["rank"][name]] if tested else []),
                f"{plain(name)}{stale}",
                f"{score['score']:.3f} {texts.spread(score, scores['ranges'][name], 3)}".strip(),
                texts.ratio(scores["mean_ratios"][name]["ratio"]),
                *times,
            ]
        )
    return _table(head, rows, 2 if tested else 1)


def _changes(board: Board) -> str:
    before, after = board["packs"]
    head = ["submission", f"{plain(after)} over {plain(before)}", "p (Holm)", "verdict", *map(plain, board["ranked"])]
    rows = [
        [
            plain(row["submission"]),
            f"{texts.ratio(row['ratio'])} {texts.ends(row['ends'], 3)}".strip(),
            texts.p_value(row["p"]),
            plain(row["verdict"]),
            *(" → ".join(texts.number(one) for one in row["times"][w]) for w in board["ranked"]),
        ]
        for row in board["changes"]
    ]
    return _table(head, rows, 1)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table whose first `left` columns are texts."""
    rule = ["---" if n < left else "---:" for n in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, in one line; `what stands in backticks` stays code."""
    text = " ".join(text.split())
    if text.count("`") % 2 or "``" in text or "|" in text:  # no pairs, or a bar, which ends a cell within code too
        return _escaped(text)
    return "`".join(part if n % 2 else _escaped(part) for n, part in enumerate(text.split("`")))


def _escaped(text: str) -> str:
    text = re.sub(r"([\\`*\[\]<>|])", r"\\\1", text.replace("&", "&amp;"))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("@", "&#64;")
