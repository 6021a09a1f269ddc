"""(stub until written)"""
import os
from pathlib import Path
def hardware_cache(): return Path(os.environ.get("HARNESS_CACHE", Path.home()/".cache/training-harness"))
def cached_baseline_step_s(folder, device): return None
