"""A benchmark harness for training algorithms: load a workload, run a submission, score time-to-result."""

__version__ = "0.1.0"
