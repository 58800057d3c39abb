import os
import subprocess
import sys

STEPS = """
import resource, sys
import numpy as np
from contextlib import nullcontext
from leanrec.core.allocator import freed_memory_kept

def step():
    held = [np.ones(1 << 20, np.float32) for _ in range(8)]  # 4 MiB each

with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(20):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(resident >> 20)
"""


def faults_and_megabytes(how: str, **environment: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    faults, megabytes = done.stdout.split()
    return int(faults), int(megabytes)


def test_steps_do_not_fault_their_blocks_in_again_and_all_goes_back_in_the_end():
    given_back, _ = faults_and_megabytes("given-back", MALLOC_TRIM_THRESHOLD_=str(1 << 20))
    kept, after = faults_and_megabytes("kept")
    assert kept < 200 < 4_000 < given_back  # of 20 steps; a step has 8,192 pages
    assert after < 200
