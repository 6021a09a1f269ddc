"""How far training goes until the host has something to do: the next measurement, control call or look at the clock."""

from __future__ import annotations

from harness.program.workload import MEASUREMENTS, next_measurement
from harness.record.spec import TrialSpec
from harness.trial.host_state import HostState
from harness.trial.programs import MAX_CHUNK_STEPS


def next_measured(spec: TrialSpec, host: HostState, measurements: int = MEASUREMENTS) -> int:
    """Return the examples at which the next measurement is due: in examples, whatever the batch size."""
    done = host.measurements[-1].examples // spec.batch_size if host.measurements else 0
    return next_measurement(spec.horizon, done, measurements) * spec.batch_size


def chunk_dispatches(spec: TrialSpec, host: HostState, dispatch_steps: int, measurements: int = MEASUREMENTS) -> int:
    """Return how many calls of the step program the next chunk takes: up to the next measurement or control at most."""
    control = (host.examples * 25 // (spec.horizon * spec.batch_size) + 1) * spec.horizon * spec.batch_size // 25
    examples = min(next_measured(spec, host, measurements), control) - host.examples
    steps = min(-(-examples // host.batch_size), MAX_CHUNK_STEPS)
    if spec.max_steps is not None:
        steps = min(steps, spec.max_steps - host.step)
    return max(1, -(-steps // dispatch_steps))
