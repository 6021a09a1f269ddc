"""Planted submissions against the confinement, each in a process of its own, as this user and as an ordinary one.

What each tries stands in `REFUSED`, `ENDED` and `HARMLESS`; all are exported by one call, beside an honest one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pytest
from planted import ALONE, META, TO_ALL

from harness.errors import SubmissionError
from harness.program import child, confinement, discovery, processes, seccomp, store
from harness.program.discovery import Folder

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
LIMIT_S = 20.0
QUADRATIC = discovery.find("workloads", "quadratic")
HELD = confinement.kernel()
COLUMN = seccomp._MACHINES.get(os.uname().machine, (0, 0))[0]
pytestmark = pytest.mark.skipif(
    not HELD["seccomp"] or HELD["landlock"] < confinement.WHOLE, reason=f"this kernel: {confinement.told(HELD)}"
)

ALGORITHM = """
import ctypes, gc, json, os, pathlib, resource, signal, socket, subprocess, sys, threading, time
import jax, jax.numpy as jnp
from harness.api import Algorithm


def init(params, key):
    return {{"count": jnp.zeros((), jnp.int32)}}


def step(loss, state, batch, key):
    (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
    {step}
    params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    return state._replace(params=params, model_state=model_state), {{"loss": value}}


def out():
    "Where the exporter writes: a submission finds its way."
    frame = sys._getframe()
    while "job" not in frame.f_locals:
        frame = frame.f_back
    return pathlib.Path(frame.f_locals["job"].out)


def call(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


{to_all}

def build(task, hp):
    {build}
    return Algorithm(init=init, step=step)
"""

DENIED = rf"PermissionError in build: .*Permission denied.*; {ALONE}"
BARRED = rf"PermissionError in build: .*Operation not permitted.*; {ALONE}"
TOO_LARGE = r"OSError in build: \[Errno 27\] File too large; a submission writes and prints at most 16 MiB"
NO_ANSWER = "the process that makes its program ended: it answered b'{}', which is no answer"
REFUSED = {
    "opens_data": ("open('{secrets}/data/images.npy', 'rb').read()", DENIED),
    "opens_a_run": ("open('{secrets}/runs/one/result.json').read()", DENIED),
    "opens_the_home": ("open('{secrets}/home/.netrc').read()", DENIED),
    "opens_the_digits": ("open('{digits}', 'rb').read()", DENIED),
    "asks_for_the_digits": ("from sklearn import datasets; datasets.load_digits()", DENIED),
    "imports_unasked": (
        "import sklearn",
        r"ModuleNotFoundError in build: No module named 'sklearn'; .* add `requires: \[scikit-learn\]` to submission",
    ),
    "writes_outside": ("open('{secrets}/open_to_all/left', 'w')", DENIED),
    "connects_by_tcp": ("socket.create_connection(('127.0.0.1', 9), timeout=5)", BARRED),
    "connects_by_udp": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", BARRED),
    "spawns": ("subprocess.run(['/bin/true'])", BARRED),
    "forks_without_end": ("while True: os.fork()", BARRED),
    "takes_10_gib": ("held = bytearray(10 * 2**30)", r"submission\.py:\d+ \(build\): MemoryError in build"),
    "prints_a_gigabyte": ("[print('x' * 2**20) for _ in range(1024)]", TOO_LARGE),
    "writes_a_gigabyte": ("open(out() / 'more', 'wb').write(bytes(2**30))", TOO_LARGE),
    "patches_jax": (
        "jax.jit = lambda function, **_: function",
        "patches_jax: ValueError in init: Function to be exported must be",
    ),
    "patches_serialisation": (
        "jax.export.Exported.serialize = lambda *_, **__: b'nothing'",
        r"patches_serialisation: init_opt is no exported function",
    ),
    "patches_the_manifest": (
        "json.dumps = (lambda real: lambda held, **rest: real({{}} if 'leaves' in held else held, **rest))(json.dumps)",
        r"patches_the_manifest: what the exporter declares or wrote is no program's: KeyError",
    ),
    "answers_itself": ("to_all(b'junk\\n')", NO_ANSWER.format("junk")),
    "answers_without_end": ("to_all(b'x' * 2**18)", NO_ANSWER.format("x{80}")),
}
"""Name to what `build` does, and what the error says."""

ATTEMPTS = {
    "opens the store": "os.listdir('{programs}/index')",
    "lists the home": "os.listdir('{secrets}/home')",
    "lists its neighbours": "os.listdir(pathlib.Path(__file__).parents[1])",
    "looks at a process": "open(f'/proc/{{os.getppid()}}/environ').read()",
    "looks at itself": "open('/proc/self/environ').read()",
    "writes where it lies": "pathlib.Path(__file__).with_name('left').write_text('x')",
    "empties a file": "os.truncate('{secrets}/open_to_all/file', 0)",
    "removes a file": "os.remove('{secrets}/open_to_all/file')",
    "changes a mode": "os.chmod(__file__, 0o777)",
    "links to data": "(out() / 'more.mlir').symlink_to('{secrets}/data/images.npy')",
    "makes a pipe": "os.mkfifo(out() / 'declared.json')",
    "makes sockets": "socket.socketpair()",
    "becomes another": "os.execv('/bin/true', ['true'])",
    "kills its parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "leaves its group": "os.setpgid(0, os.getppid())",
    "outlives its parent": "call({prctl}, 1, 0)",
    "limits its parent": "resource.prlimit(os.getppid(), resource.RLIMIT_AS, (2**20, 2**20))",
    "lifts a limit": "call({prlimit}, 0, resource.RLIMIT_AS, ctypes.create_string_buffer(b'\\xff' * 16))",
}
"""Name to an expression that is a PermissionError."""

LATE = rf"the process that makes its program ended: no program within {LIMIT_S:.0f} s; tracing goes on without end"
ENDED = {
    "loops": ("while True: pass", "pass"),
    "sleeps": ("time.sleep(10_000)", "pass"),
    "traces_without_end": ("pass", "while True: value = value + 1"),
}
"""Name to what `build` and `step` do until the time is up."""

HARMLESS = {
    "honest": "pass",
    "leaves_a_thread": "threading.Thread(target=time.sleep, args=(10_000,)).start()",
    "patches_time": "time.time = time.monotonic = time.perf_counter = lambda: 0.0",
    "writes_a_manifest": "(out() / 'manifest.json').write_text(json.dumps(dict(id='f' * 64)))",
}
"""Name to what `build` does; the program is the honest one's, to the last bit of its id."""
REQUIRES = {"asks_for_the_digits": "requires: [scikit-learn]\n"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function that writes a submission, in a folder of its own, and returns it."""

    def write(name: str, build: str = "pass", step: str = "pass", more: str = "") -> Folder:
        path = tmp_path_factory.mktemp("planted") / name
        path.mkdir()
        (path / "submission.yaml").write_text(META.format(name, more or REQUIRES.get(name, "")))
        (path / "submission.py").write_text(ALGORITHM.format(build=build, step=step, to_all=TO_ALL))
        return Folder("submissions", name, path)

    return write


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return what planted code names: files that this user may read, and a folder that all may write to."""
    secrets = tmp_path_factory.mktemp("secrets")
    for name in ("data/images.npy", "runs/one/result.json", "home/.netrc", "open_to_all/file"):
        (secrets / name).parent.mkdir(parents=True)
        (secrets / name).write_text("secret")
    (secrets / "open_to_all").chmod(0o777)
    sklearn = importlib.util.find_spec("sklearn")
    return {
        "secrets": secrets,
        "digits": Path(sklearn.origin).parent / "datasets/data/digits.csv.gz",
        "programs": store.root(),
        "prctl": seccomp._PRCTL[COLUMN],
        "prlimit": seccomp._PRLIMIT[COLUMN],
    }


@pytest.fixture(scope="module")
def answers(folder, places, tmp_path_factory):
    """Export them all by one call; return the answer to each by name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(child, "MAX_EXPORT_S", LIMIT_S)
        patched.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("programs")))
        patched.setattr(processes.os, "cpu_count", lambda: 5)  # some only wait for their end
        processes.workload_program(QUADRATIC)
        folders = [folder(name, build.format(**places)) for name, (build, _) in REFUSED.items()]
        folders += [folder(name, build, step) for name, (build, step) in ENDED.items()]
        folders += [folder(name, build) for name, build in HARMLESS.items()]
        wanted = [processes.Wanted(QUADRATIC, one, ({"lr": 0.1},), 200) for one in folders]
        start = time.monotonic()
        found = processes.program_ids(wanted)
        print(f"{len(wanted)} exported in {time.monotonic() - start:.0f} s")
        yield {one.name: (one, answer) for one, answer in zip(folders, found, strict=True)}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_with_file_and_cause(answers, name):
    source, answer = answers[name]
    assert isinstance(answer, SubmissionError), answer
    assert re.search(REFUSED[name][1], str(answer)), answer
    assert str(source.path) in str(answer)
    assert "\n" not in str(answer)


@pytest.mark.parametrize("name", ENDED)
def test_what_goes_on_is_ended_at_the_limit(answers, name):
    source, answer = answers[name]
    assert isinstance(answer, SubmissionError)
    assert re.search(LATE, str(answer))
    assert str(source.path) in str(answer)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_nothing_is_the_honest_program(answers, name):
    _, honest = answers["honest"]
    _, answer = answers[name]
    assert isinstance(answer, processes.Found), answer
    assert answer == honest


def test_what_was_read_and_written_is_as_before(answers, places):
    """No other program came to harm, and nothing was left."""
    assert {path.name for path in (places["secrets"] / "open_to_all").iterdir()} == {"file"}
    assert (places["secrets"] / "open_to_all/file").read_text() == "secret"


def test_nothing_else_comes_through(folder, places, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    processes.workload_program(QUADRATIC)  # so that there is a store to try
    lines = [f"lambda: {code.format(**places | {'programs': store.root()})}" for code in ATTEMPTS.values()]
    code = f"""through = []
    for name, attempt in zip({list(ATTEMPTS)!r}, [{", ".join(lines)}]):
        try: through.append((name, attempt()))
        except PermissionError: pass
        except Exception as error: through.append((name, repr(error)))
    raise ValueError(through)"""
    tries = folder("tries", code)
    with pytest.raises(SubmissionError, match=r"ValueError in build: \[\]"):
        export(tries)
    assert {path.name for path in tries.path.iterdir()} == {"submission.py", "submission.yaml"}
    assert (places["secrets"] / "open_to_all/file").read_text() == "secret"


def export(source: Folder) -> store.Program:
    (made,) = processes.submission_programs(QUADRATIC, source, [{"lr": 0.1}], 200)
    return made


def test_the_environment_tells_nothing(folder, monkeypatch):
    monkeypatch.setenv("HARNESS_SECRET", "of the user")
    tells = folder("tells", "raise ValueError(sorted(os.environ) + [os.getcwd()] + sys.argv[1:])")
    with pytest.raises(SubmissionError, match="ValueError in build") as caught:
        export(tells)
    ours = [
        "HARNESS_ATTENTION",
        "HARNESS_CONFINED",
        "JAX_PLATFORMS",
        "LC_CTYPE",
        *(["LD_LIBRARY_PATH"] if "LD_LIBRARY_PATH" in os.environ else []),  # where Python's own library lies
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
    ]
    jax_s = ["TF_CPP_MIN_LOG_LEVEL", "TPU_SKIP_MDS_QUERY"]
    assert str([*ours, "PYTHONUTF8", *jax_s, "/", "harness.program.export"]) in str(caught.value)


def test_no_system_call_that_is_refused_comes_through(folder):
    numbers = {n: c if isinstance(c, int) else c[COLUMN] for n, c in seccomp._REFUSED.items()}
    numbers |= {"clone": seccomp._CLONE[COLUMN]}
    numbers = {name: number for name, number in numbers.items() if number is not None}
    code = f"""through = dict()
    for name, number in {numbers!r}.items():
        try: through[name] = call(number, 0, 0, 0, 0, 0, 0)
        except PermissionError: pass
        except OSError as error: through[name] = error.errno
    raise ValueError(through)"""
    with pytest.raises(SubmissionError, match=r"ValueError in build: \{\}"):
        export(folder("calls", code))


def test_a_thread_that_goes_on_delays_nothing(folder):
    start = time.monotonic()
    export(folder("goes_on", "threading.Thread(target=time.sleep, args=(10_000,)).start()", "value = 1 * value"))
    assert time.monotonic() - start < child.MAX_EXPORT_S / 2


def test_threads_and_jax_s_own_computations_are_allowed(folder):
    works = """
    done = []
    thread = threading.Thread(target=lambda: done.append(float(jax.jit(jnp.sum)(jnp.ones((300, 300)) @ jnp.ones(300)))))
    thread.start()
    thread.join()
    assert done == [90_000.0]
    jnp.linalg.qr(jnp.ones((3, 3)))
"""
    export(folder("works", works.strip()))


def test_a_package_that_is_required_is_readable_and_recorded(folder):
    asks = folder("asks", "import markdown; assert markdown.markdown('*x*')", "value *= 3", "requires: [Markdown]\n")
    made = export(asks)
    assert made.manifest.sources["requires"] == {"Markdown": metadata.version("Markdown")}
    assert made.manifest.sources["confinement"] == HELD
    with pytest.raises(SubmissionError, match=r"submission\.yaml: requires: 'no-such-thing' is not installed; install"):
        export(folder("wants", more="requires: [no-such-thing]\n"))


def test_older_kernels_hold_less_and_the_record_says_so(folder, monkeypatch):
    same = export(folder("whole")).manifest
    for held in (
        {"landlock": 3, "seccomp": True},
        {"landlock": 1, "seccomp": False},
        {"landlock": 0, "seccomp": False},
    ):
        monkeypatch.setattr(confinement, "kernel", lambda held=held: held)
        made = export(folder("older", f"unused = {held!r}"))
        assert made.manifest.id == same.id
    monkeypatch.setattr(confinement, "kernel", lambda: {"landlock": 0, "seccomp": False})
    monkeypatch.setenv("HARNESS_CACHE", str(store.root().parent / "bare"))
    assert export(folder("bare", "subprocess.run(['/bin/true'])")).manifest.sources["confinement"] == held
    assert confinement.told({"landlock": 7, "seccomp": True}) == "Landlock 7 and seccomp"
    assert confinement.told({"landlock": 0, "seccomp": False}) == (
        "none; files are open without Landlock (Linux 5.13); network, programs and processes are open"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become another user")
def test_all_of_this_as_an_ordinary_user(tmp_path):
    """Again with what root may do taken away: there are other ways to read a file then, and other limits."""
    place = Path(tempfile.mkdtemp(prefix="ordinary-"))
    try:
        place.chmod(0o755)
        (own := place / "own").mkdir()
        os.chown(own, NOBODY, NOBODY)
        python = place / "python/bin/python3"
        python.parent.mkdir(parents=True)
        shutil.copy(Path(sys.executable).resolve(), python)
        standard = Path(sysconfig.get_path("stdlib"))
        unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "idlelib", "config-*")
        shutil.copytree(standard, place / "python/lib" / standard.name, ignore=unused, symlinks=True)
        for library in (Path(sys.base_prefix) / "lib").glob("libpython*.so*"):
            shutil.copy(library, place / "python/lib" / library.name)
        packages = Path(importlib.util.find_spec("jax").origin).parents[1]
        environment = {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, packages))), "HOME": str(own), "TMPDIR": str(own),
            "PYTHONDONTWRITEBYTECODE": "1", "LD_LIBRARY_PATH": str(place / "python/lib"),
        }  # fmt: skip

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(python), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
                user=NOBODY, group=NOBODY, extra_groups=[],
            )  # fmt: skip

        probe = run("-c", "import jax, harness, pytest")
        if probe.returncode:
            pytest.skip(f"what runs here is not another user's to read: {probe.stderr.splitlines()[-1]}")
        own_file, unit = str(Path(__file__).relative_to(ROOT)), "tests/unit"
        half = f"{unit}/program/test_processes.py::test_half_of_the_batch_is_flagged"
        files = own_file, f"{unit}/trial/test_controller.py", half
        done = run(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={own / 'tests'}", *files, "-k", "not older"
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert re.search(r"\d+ passed, 1 skipped, 1 deselected", done.stdout), done.stdout[-1000:]
    finally:
        shutil.rmtree(place)
