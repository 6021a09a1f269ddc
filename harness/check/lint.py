"""What a submission must not do, looked for in its syntax trees: nothing of it is run.

A submission is made of pure functions of what it is handed. It neither reads files, environment or clocks nor changes
jax, the harness or the model. This finds slips and plain cheats; whoever wants to hide something can.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

ALLOWED = ("harness.api", "harness.optim", "harness.optax_adapter")  # the last is an old name of one of optim's


@dataclass(frozen=True)
class Lint:
    """One place: `file:line`, what is done there and how to mend it. A warning does not fail the check."""

    where: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Rule:
    """What it is that the dotted `names`, and all below them, do; and what to do instead."""

    what: str
    mend: str
    names: frozenset[str]


def _rule(what: str, mend: str, names: str) -> Rule:
    return Rule(what, mend, frozenset(names.split()))


_LEGACY_DRAWS = "seed rand randn randint random random_sample normal uniform standard_normal choice permutation shuffle"
RULES = (
    _rule(
        "reaches files or the environment",
        "keep constants in the code and settings in submission.yaml",
        """os io pathlib shutil tempfile glob fileinput mmap pickle shelve dbm sqlite3 zipfile tarfile gzip bz2 lzma
        pkgutil numpy.load numpy.save numpy.savez numpy.savez_compressed numpy.savetxt numpy.loadtxt numpy.genfromtxt
        numpy.fromfile numpy.memmap jax.numpy.load jax.numpy.save jax.numpy.savez jax.numpy.fromfile orbax""",
    ),
    _rule(
        "reaches the network",
        "all that a submission may know is in `task` and what `step` is handed",
        "socket ssl urllib http ftplib smtplib requests urllib3 httpx aiohttp websockets xmlrpc",
    ),
    _rule("starts processes", "do it in jax, within `step`", "subprocess multiprocessing pty"),
    _rule("starts threads", "do it in jax, within `step`", "threading _thread concurrent asyncio"),
    _rule(
        "reads a clock",
        "progress is `state.step` and `state.examples`; seconds are the harness's",
        "time timeit datetime sched signal jax.profiler",
    ),
    _rule(
        "changes settings of jax",
        "they would change the model too; give precision and dtype to your own operations",
        """jax.config jax.enable_x64 jax.experimental.enable_x64 jax.default_matmul_precision jax.default_device
        jax.default_prng_impl jax.disable_jit jax.debug_nans jax.debug_infs jax.enable_checks jax.transfer_guard
        jax.numpy_rank_promotion jax.numpy_dtype_promotion jax.distributed jax.clear_caches jax.monitoring
        jax.experimental.compilation_cache""",
    ),
    _rule(
        "calls back to the host",
        "`step` is a pure function of arrays: write it in jax, and return what is to be seen as a metric",
        """jax.pure_callback jax.debug.callback jax.experimental.io_callback jax.experimental.pure_callback
        jax.experimental.host_callback""",
    ),
    _rule(
        "draws random numbers outside of jax",
        "use the key that `init`, `step` and `eval_variables` are handed",
        "random secrets uuid " + " ".join(f"numpy.random.{name}" for name in _LEGACY_DRAWS.split()),
    ),
    _rule(
        "reaches into the interpreter",
        "import what you need by its name",
        "sys builtins importlib runpy ctypes cffi gc atexit unittest inspect.currentframe inspect.stack code",
    ),
)
_BUILTINS = {
    "open": RULES[0], "input": RULES[0],
    **dict.fromkeys(("exec", "eval", "compile", "__import__", "globals", "breakpoint"), RULES[-1]),
}  # fmt: skip
_FRAMES = {
    "__globals__",
    "__builtins__",
    "__subclasses__",
    "__code__",
    "__closure__",
    "f_back",
    "f_globals",
    "f_locals",
}
_LOSS_INTERNALS = {"workload", "gradients"}
_TASK_COUNTS = {"batch_size", "step_hint", "budget_steps", "num_train_examples"}
_SMALL, _TELLING = 8, 1000


def lint(folder: Path, workloads: Collection[str] = ()) -> list[Lint]:
    """Return what is found in the folder's Python files; `workloads` are names that no submission may ask for."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        try:
            tree = ast.parse(file.read_bytes(), name)
        except (SyntaxError, ValueError) as error:
            found.append(
                Lint(f"{name}:{getattr(error, 'lineno', None) or 1}", f"does not parse: {error}; mend it first")
            )
            continue
        linter = _File(name, tree, frozenset(workloads))
        linter.visit(tree)
        found += sorted(linter.found, key=lambda one: int(one.where.rpartition(":")[2]))
    return found


class _File(ast.NodeVisitor):
    """The findings of one file, each thing once, where it comes first."""

    def __init__(self, file: str, tree: ast.Module, workloads: frozenset[str]):
        self.found: list[Lint] = []
        self._file, self._workloads = file, workloads
        self._seen: set[str] = set()
        self._imported = dict(_imported_names(tree))
        self._own = set(_bound_names(tree))
        self._tables = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }

    # ---- what is imported and reached through imports ----

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._reached(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level > 1:
            self._add(node, "imports from outside its folder; a submission is one folder: copy what it needs into it")
        elif node.level == 0:
            for alias in node.names:
                self._reached(node, f"{node.module}.{alias.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if dotted := self._dotted(node):
            self._reached(node, dotted)
            return
        if node.attr in _FRAMES:
            self._breaks(node, RULES[-1], node.attr)
        if isinstance(node.value, ast.Name) and node.value.id == "loss":
            if node.attr in _LOSS_INTERNALS or node.attr.startswith("_"):
                self._add(
                    node,
                    f"reaches into the loss (loss.{node.attr}); it has value, value_and_grad, per_example and "
                    "sample_targets",
                )
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _BUILTINS and node.id not in self._own | set(self._imported):
            self._breaks(node, _BUILTINS[node.id], f"{node.id}()")

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.id if isinstance(node.func, ast.Name) else None
        root = self._dotted(node.args[0]) if node.args else None
        if called in ("setattr", "delattr") and root:
            self._patches(node, root)
        if called == "getattr" and root and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            self._reached(node, f"{root}.{node.args[1].value!s}")
        if self._dotted(node.func) == "numpy.random.default_rng" and not node.args and not node.keywords:
            self._breaks(node, RULES[-2], "numpy.random.default_rng() without a seed")
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            self._look_up(node, node.func.value, node.args[0])
        self.generic_visit(node)

    # ---- what is changed ----

    def visit_Assign(self, node: ast.Assign) -> None:
        self._changes(node.targets)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._changes([node.target])
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._changes(node.targets)
        self.generic_visit(node)

    def _changes(self, targets: list[ast.expr]) -> None:
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                inner = part.value if isinstance(part, ast.Attribute | ast.Subscript) else None
                while isinstance(inner, ast.Subscript):
                    inner = inner.value
                if inner is not None and (root := self._dotted(inner)):
                    self._patches(part, root)

    def _patches(self, node: ast.AST, root: str) -> None:
        self._add(node, f"changes {root}, which is not its own; write a function of your own instead")

    # ---- which workload it is ----

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self._docstrings:
            for name in sorted(name for name in self._workloads if name in node.value):
                self._add(node, f"names the workload {name}; a submission sees a task, not which one: use `task`")

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

    def _look_up(self, node: ast.AST, table: ast.expr, key: ast.expr) -> None:
        literal = isinstance(table, ast.Dict) or (isinstance(table, ast.Name) and table.id in self._tables)
        if literal and any(name in _TASK_COUNTS | {"shape", "size"} for name in _names(key)):
            self._recognition(node)

    def _recognises(self, node: ast.AST, asked: ast.AST, numbers: list[int]) -> None:
        names = set(_names(asked))
        telling = max(map(abs, numbers), default=0)
        of_task = bool(names & (_TASK_COUNTS | {"shape", "size"}))
        of_steps = any("step" in name for name in names - _TASK_COUNTS)
        if (of_task and telling > _SMALL) or (telling >= _TELLING and names - {"hp"} and not of_steps):
            self._recognition(node)

    def _recognition(self, node: ast.AST) -> None:
        self._add(
            node,
            "asks for exact shapes or counts; recognising a workload by them is against the rules: branch on "
            "`param_info` kinds, ranks and ratios",
            warning=True,
        )

    # ---- what these share ----

    def _reached(self, node: ast.AST, dotted: str) -> None:
        parts = dotted.split(".")
        if parts[0] == "harness":
            inside = any(dotted == name or dotted.startswith(f"{name}.") for name in ALLOWED)
            # `import harness.optim.muon` binds `harness`; the attribute is looked at where it is used.
            if not inside and not (
                isinstance(node, ast.Attribute) and any(a.startswith(f"{dotted}.") for a in ALLOWED)
            ):
                self._add(node, f"uses {dotted}, which is internal to the harness; allowed are {', '.join(ALLOWED)}")
            return
        prefixes = [".".join(parts[: n + 1]) for n in range(len(parts))]
        for rule in RULES:
            for name in prefixes:
                if name in rule.names:
                    self._breaks(node, rule, name)

    def _breaks(self, node: ast.AST, rule: Rule, name: str) -> None:
        self._add(node, f"{name} {rule.what}; {rule.mend}")

    def _add(self, node: ast.AST, message: str, *, warning: bool = False) -> None:
        if message not in self._seen or warning:
            self._seen.add(message)
            self.found.append(Lint(f"{self._file}:{getattr(node, 'lineno', 1)}", message, warning))

    def _dotted(self, node: ast.AST) -> str | None:
        """Return the full name of what an expression reaches through an import, or None."""
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value)
            return f"{base}.{node.attr}" if base else None
        if isinstance(node, ast.Name) and node.id not in self._own:
            return self._imported.get(node.id)
        return None


def _imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (name in the file, what it stands for) of each import but the relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names that the file gives to things of its own: assigned, defined, or an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute):
            yield inner.id if isinstance(inner, ast.Name) else inner.attr


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
