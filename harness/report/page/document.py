"""The page: one HTML file that holds its style, its script, the plotting library and the data, and asks for nothing.

All tables stand in the HTML, so that they can be read without a script; the script sorts, filters, switches and plots.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from harness import __version__
from harness.errors import ConfigError
from harness.report.page import curves, plots, scale_ladder, sections
from harness.report.page.boards import Board
from harness.report.page.elements import data, el, script, written

_HERE = Path(__file__).parent
_EXPOSED = "window.vegaEmbed = vegaEmbed;"


def library() -> Any:
    """Return the package that holds the plotting library. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module("vl_convert")
    except ImportError:
        raise ConfigError(
            "the page and its figures need the package vl-convert-python, which is not installed; "
            "`pip install vl-convert-python`, or --markdown, which does without"
        ) from None


def page(boards: Sequence[Board], title: str) -> str:
    """Return the page. Raises ConfigError where the plotting library is not installed."""
    found = library()
    keys = [f"b{number}" for number in range(len(boards))]
    both = list(zip(keys, boards, strict=True))
    several = len(boards) > 1
    body = el(
        "body",
        el("a", "Skip to the results", href="#main", class_="skip"),
        el(
            "header",
            el("h1", title),
            el("p", _summary(boards), class_="lead"),
            _choice(both) if several else None,
        ),
        el("noscript", el("p", "Sorting, filters and plots need a script; the tables do not.", class_="note")),
        el("main", [_section(board, key) for key, board in both], id="main", tabindex="-1"),
        el("footer", el("p", "Made by ", el("code", "harness report"), f" {__version__}. The numbers are those of ",
                        el("code", "harness score"), ".")),
        el("div", id="tip", class_="tip", role="tooltip", hidden=True),
        el("div", id="said", class_="unseen", aria_live="polite"),
        data("report-data", {"boards": {key: _view(board, found) for key, board in both}}),
        script(found.javascript_bundle(_EXPOSED)),
        script((_HERE / "page.js").read_text()),
    )  # fmt: skip
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", (_HERE / "page.css").read_text()),
    )
    return written(el("html", head, body, lang="en"))


def write(boards: Sequence[Board], title: str, file: Path) -> None:
    """Write the page. Raises ConfigError where that cannot be."""
    text = page(boards, title)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the page to {file}: {error}; choose another file with -o") from None


def _section(board: Board, key: str) -> Element:
    return (scale_ladder if "ladder" in board else sections).section(board, key)


def _summary(boards: Sequence[Board]) -> str:
    own = [board for board in boards if "packs" not in board]  # a board of two packs holds what is in theirs
    if all("ladder" in board for board in own):
        return "Data-equivalent speed-ups over widths of a model and amounts of data."
    names = {name for board in own for name in board["submissions"]}
    return (
        f"{len(names)} submissions, {sum(len(board['records']) for board in own)} trials. "
        "Time to a validation target. A score of 1 is fastest everywhere, 0 four times slower than the best, or missed."
    )


def _choice(both: Sequence[tuple[str, Board]]) -> Element:
    links = [el("li", el("a", board["name"], href=f"#{key}", data_board=key)) for key, board in both]
    return el("nav", el("ul", links), class_="boards", aria_label="Boards")


def _view(board: Board, found: Any) -> dict[str, Any]:
    """Return what the script needs of a board, with the compiled plots."""
    if "ladder" in board:
        spec = compiled(plots.ladder(board["looks"], page=True), found)
        return scale_ladder.view(board) | {"specs": {"ladder": spec}}
    looks = board["looks"]
    kinds = {
        "curves": plots.curves(looks, page=True),
        "profiles": plots.profiles(looks, page=True),
        "spent": plots.spent(looks, page=True),
        "pairs": plots.pairs(looks, page=True),
        "parallel": plots.parallel(page=True),
        "linear": plots.points(log=False, page=True),
        "log": plots.points(log=True, page=True),
    }
    wanted = {
        "curves": board["axes"],
        "profiles": board["standings"],
        "pairs": board["standings"],
        "spent": board["spent"],
    } | dict.fromkeys(("parallel", "linear", "log"), board["points"])
    return {
        "names": list(looks),
        "looks": list(looks.values()),
        "clock": board["clock"],
        "axes": board["axes"],
        "metrics": board["metrics"],
        "targets": board["target_values"],
        "curves": board["curves"],
        "medians": board["medians"],
        "domains": domains(board),
        "profiles": {clock: one["profiles"] for clock, one in board["standings"].items()},
        "speed_ups": {clock: one["speed_ups"] for clock, one in board["standings"].items()},
        "spent": board["spent"],
        "points": board["points"],
        "pairs": {
            clock: [{k: one[k] for k in ("a", "b", "ratio", "separable")} | {"verdict": text}
                    for one, text in zip(board["scores"][clock]["pairs"], of["verdicts"], strict=True)]
            for clock, of in board["standings"].items()
        },
        "groups": plots.SPAN_GROUPS,
        "dashes": plots.DASHES,
        "shapes": plots.SHAPES,
        "specs": {kind: compiled(spec, found) for kind, spec in kinds.items() if wanted[kind]},
    }  # fmt: skip


def compiled(spec: plots.Spec, found: Any) -> Any:
    """Return a specification as Vega."""
    made = found.vegalite_to_vega(spec)
    return json.loads(made) if isinstance(made, str) else made


def domains(board: Board) -> dict[str, tuple[float, float] | None]:
    """Return the values that each workload's plot starts with."""
    return {
        workload: curves.domain(
            [one["y"] for one in of], board["target_values"].get(workload), board["modes"][workload]
        )
        for workload, of in board["curves"].items()
    }
