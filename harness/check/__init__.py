"""`harness check`: what an author runs before anybody is asked to run a submission, and what CI runs on every folder.

`static.py` and `lint.py` look at the files; `conformance.py` runs the submission, in a process of its own, on every toy
workload (`WorkloadInfo.scored` is False); `report.py` puts together what they found.
"""
