"""Trouble of the machine is told from all else, whoever tells of it."""

from __future__ import annotations

import errno

import pytest

from harness.errors import MachineError, SubmissionError, beneath


def caused(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.npz"), "x.npz: No space left on device; free some space"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing\nNo space left on device"), "ValueError: No space left on dev"),
        (ImportError("lib.so: cannot open: Too many open files"), "ImportError: lib.so: .*; too many files are open"),
        (RuntimeError("can't start new thread"), "can't start new thread; .* raise `ulimit -u`"),
        (caused(KeyError("a"), OSError(errno.EMFILE, "Too many open files")), "Too many open files; .* `ulimit -n`"),
    ],
)
def test_the_machine_s(error, told):
    trouble = beneath(error)
    assert isinstance(trouble, MachineError)
    with pytest.raises(MachineError, match=told + ".*then type the same again to go on"):
        raise trouble


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ValueError("RESOURCE_EXHAUSTED: Out of memory"),
        SubmissionError("control: No space left on device"),
        caused(SubmissionError("x"), OSError(errno.ENOSPC, "No space left on device")),
        KeyboardInterrupt(),
    ],
)
def test_what_is_not(error):
    assert beneath(error) is None
