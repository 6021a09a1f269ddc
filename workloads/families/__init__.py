"""Models and losses that several workloads share. A workload is one frozen specification of a family (`spec.py`)."""
