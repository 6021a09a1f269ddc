"""One trial: a prepared run folder and its programs come in, its record goes out, timed by the clock that ranks.

Its processes (`worker`, `sweep`, `priming`, `yardstick`, `golden`, `conformance`) are started by name. It may import
program and the rooms below, jax and orbax. The exit codes of `worker` beside 0, which says that the result is written:
"""

EXIT_HELD = 4
"""Another process holds the run folder."""
EXIT_UNUSABLE = 5
"""The run folder cannot be used."""
EXIT_MACHINE = 7
"""The machine failed: a full disk, say. Nothing is recorded, so that the same command goes on from the checkpoint."""
EXIT_DATA = 6
"""Data are missing. Nothing is recorded, so that the same command goes on once they are there."""
