"""Advice on a submission's sources, from their syntax trees: nothing of them is run.

A submission branches on what its task is like, not on which one it is; what stands in `submission.yaml` is there to be
read, and what it prints is seen by nobody.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.program.discovery import ORIGIN, entry, files_of, metadata

_COUNTS = {"batch_size", "step_hint", "budget_steps", "num_train_examples"}
_DEVICES = {"default_backend", "devices", "local_devices", "device_count", "local_device_count"}
_SMALL, _TELLING = 8, 1000


def advise(folder: Path, workloads: Collection[str] = (), hyperparameters: Collection[str] = ()) -> list[str]:
    """Return advice on the folder's Python files, each with its place. `workloads` are names that no submission needs,
    `hyperparameters` those that its defaults have. A file that does not parse is passed over.
    """
    found: list[str] = []
    words: set[str] = set()
    typed = entry(folder) if (folder / ORIGIN).is_file() else folder.name
    for file in files_of(folder):
        if file.suffix != ".py":
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            return []
        name = file.relative_to(folder).as_posix()
        name = typed if name == "submission.py" and typed.endswith(".py") else name
        reader = _File(name, tree, frozenset(workloads), typed)
        reader.visit(tree)
        found += reader.found
        words |= set(_words(tree))
    where, _ = metadata(folder)
    if "**" not in words:
        found += [
            f"{Path(where).name}: nothing reads the hyperparameter '{name}'; use it in build, or remove it"
            for name in hyperparameters
            if name not in words
        ]
    return found


@dataclass
class _File(ast.NodeVisitor):
    """The advice on one file."""

    file: str
    tree: ast.Module
    workloads: frozenset[str]
    typed: str
    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tables = {
            target.id
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._docstrings = {
            id(node.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self._docstrings:
            for name in sorted(name for name in self.workloads if name in node.value):
                self._add(node, f"names the workload {name}; a submission sees a task, not which one: use `task`")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _DEVICES and isinstance(node.value, ast.Name) and node.value.id == "jax":
            self._add(node, f"jax.{node.attr} tells of the process that exports; task.platform tells where it will run")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, one, other in zip(node.ops, sides, sides[1:], strict=False):
            if isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                for asked, constant in ((one, other), (other, one)):
                    self._recognises(node, asked, _whole_numbers(constant))
        self.generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        for case in node.cases:
            self._recognises(node, node.subject, _whole_numbers(case.pattern))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._look_up(node, node.value, node.slice)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "__name__" not in _names(node.test):  # what runs as a script is no part of a submission
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            shows = f"`harness check {self.typed} --debug` shows it"
            self._add(node, f"print shows nothing in a run, which goes by the program that comes of this code; {shows}")
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            self._look_up(node, node.func.value, node.args[0])
        self.generic_visit(node)

    def _look_up(self, node: ast.AST, table: ast.expr, key: ast.expr) -> None:
        literal = isinstance(table, ast.Dict) or (isinstance(table, ast.Name) and table.id in self._tables)
        if literal and any(name in _COUNTS | {"shape", "size"} for name in _names(key)):
            self._recognition(node)

    def _recognises(self, node: ast.AST, asked: ast.AST, numbers: list[int]) -> None:
        names = set(_names(asked))
        telling = max(map(abs, numbers), default=0)
        of_task = bool(names & (_COUNTS | {"shape", "size"}))
        of_steps = any("step" in name for name in names - _COUNTS)
        if (of_task and telling > _SMALL) or (telling >= _TELLING and names - {"hp"} and not of_steps):
            self._recognition(node)

    def _recognition(self, node: ast.AST) -> None:
        self._add(
            node,
            "asks for exact shapes or counts; recognising a workload by them is against the rules: branch on "
            "`param_info` kinds, ranks and ratios",
        )

    def _add(self, node: ast.AST, message: str) -> None:
        self.found.append(f"{self.file}:{getattr(node, 'lineno', 1)}: {message}")


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute):
            yield inner.id if isinstance(inner, ast.Name) else inner.attr


def _words(tree: ast.AST) -> Iterator[str]:
    """Yield every name and text of a file, and `**` where a mapping is handed on whole."""
    yield from _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.keyword):
            yield node.arg or "**"
        elif isinstance(node, ast.Dict) and None in node.keys:
            yield "**"


def _whole_numbers(node: ast.AST) -> list[int]:
    """Return the integers of a constant expression or pattern; none where it holds anything but constants."""
    plain = (
        ast.Constant, ast.Tuple, ast.List, ast.Set, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.Load,
        ast.MatchValue, ast.MatchSequence, ast.MatchOr,
    )  # fmt: skip
    inner = list(ast.walk(node))
    if not all(isinstance(one, plain) for one in inner):
        return []
    return [one.value for one in inner if isinstance(one, ast.Constant) and type(one.value) is int]
