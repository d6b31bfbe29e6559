"""What a process has computed keeps no fork of it from computing, to the same bits: nobody waits for threads.

Each script is a process of its own, because pytest's has threads of many kinds. The bits need no tolerance: a
child computes what its parent computed, on as many threads and in batches of as many rows.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

# A child that waits for threads that it does not have ends after a minute, by a signal.
CHILDREN = """
import os, pickle, signal, threading
import numpy as np
from merged_diffusion import _core

def in_a_child(work, wait=60):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            signal.alarm(wait)
            with os.fdopen(theirs, "wb") as out:
                pickle.dump(work(), out)
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, "rb") as found:
        left = found.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"a child ended with {code}"
    return pickle.loads(left)

images = np.arange(64, dtype=np.uint64)

def noise():
    # Of 64,128 values, which are for many threads; and of some that are for the caller's.
    out, few = np.empty((64, 1002)), np.empty((64, 2))
    _core.fill_normal(out, 0, "start", images, images)
    _core.fill_normal(few, 0, "start", images, images)
    levels = np.minimum(np.abs(out) * 100, 255).astype(np.uint8)
    decoded = _core.decoder_log_likelihood(out[:8], levels[:8], -2.0, 256)
    sums = _core.end_density(out.reshape(-1).repeat(2), 1.0, 3)  # of 128,256: on a thread of its own
    return out.tobytes() + few.tobytes() + np.asarray(decoded).tobytes() + np.asarray(sums).tobytes()
"""


def ends_well(script: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILDREN + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


def test_a_fork_of_a_process_that_has_computed_computes_the_same() -> None:
    """Of one whose number of threads was never chosen, and of one with two; and a fork of a fork."""
    ends_well("""
first = noise()
assert in_a_child(noise) == first
_core.set_threads(2)
assert noise() == first
assert in_a_child(lambda: (noise(), _core.threads())) == (first, 2)
assert in_a_child(lambda: (noise(), in_a_child(noise, 30), noise())) == (first, first, first)
assert in_a_child(lambda: in_a_child(noise, 30)) == first  # of a child that computed nothing

def otherwise():
    _core.set_threads(3)
    return _core.threads(), noise(), in_a_child(lambda: (_core.threads(), noise()), 30)

assert in_a_child(otherwise) == (3, first, (3, first))
assert noise() == first and _core.threads() == 2
""")


def test_a_fork_while_another_thread_computes_computes_the_same() -> None:
    """At any moment of its loops, and of the making of its threads."""
    ends_well("""
first = noise()
over = threading.Event()

def go_on():
    n = 0
    while not over.is_set():
        n += 1
        _core.set_threads(1 + n % 3)
        noise()

busy = threading.Thread(target=go_on)
busy.start()
try:
    for _ in range(40):
        assert in_a_child(noise) == first
finally:
    over.set()
    busy.join()
""")


@pytest.mark.skipif(sys.platform != "linux", reason="frameworks of macOS end a fork that uses them")
def test_a_likelihood_in_a_fork_has_the_bits_of_its_parent() -> None:
    """By `os.fork`, by multiprocessing, and by workers of a DataLoader; torch has two threads everywhere."""
    ends_well("""
import multiprocessing
import torch
import merged_diffusion as md

torch.set_num_threads(2)
_core.set_threads(2)
shape = (3, 64, 64)
expert = md.GaussianExpert(shape, variance=0.2, gamma_range=(-13.3, 5.0))
pixels = np.random.default_rng(0).integers(0, 256, (16, *shape), dtype=np.uint8)
machine = md.Machine(batch_size=16, threads=2)

def scored(number=0):
    # Of 196,608 values a call: torch shares 32,768 and more among its threads.
    return md.log_likelihood(expert, pixels, machine=machine).bits_per_dim.tobytes()

class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        return number, noise(), scored()

alone, drawn = scored(), noise()
assert torch.get_num_threads() == 2
assert in_a_child(scored) == alone
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(scored, range(2)).get(60) == [alone, alone]
loader = torch.utils.data.DataLoader(
    Noise(), batch_size=None, num_workers=2, timeout=60, multiprocessing_context="fork"
)
assert [tuple(item) for item in loader] == [(number, drawn, alone) for number in range(4)]
assert in_a_child(lambda: (scored(), in_a_child(scored, 30))) == (alone, alone)
assert scored() == alone
""")
