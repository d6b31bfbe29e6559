"""What the fuzzers share: mutations, and a loop that counts outcomes, seconds and memory."""

import os
import time
import tracemalloc
from itertools import count

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from merged_diffusion.errors import MergedDiffusionError

SECONDS = float(os.environ.get("MERGED_DIFFUSION_FUZZ_SECONDS", "20"))
SLOWEST, MEMORY = 2.0, 256 << 20
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]


@st.composite
def mutations(draw, content):
    """Some bytes set, cut out, repeated or inserted, mostly near the ends, where headers lie."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        size = max(len(changed), 1)
        near = st.integers(0, min(600, size - 1))
        at = draw(st.one_of(near, near.map(lambda n, s=size: s - 1 - n), st.integers(0, size - 1)))
        kind = draw(st.sampled_from(("set", "flip", "word", "cut", "repeat", "insert", "truncate")))
        if kind == "set":
            changed[at : at + 1] = bytes([draw(st.sampled_from(INTERESTING))])
        elif kind == "flip":
            changed[at : at + 1] = bytes([b ^ (1 << draw(st.integers(0, 7))) for b in changed[at : at + 1]])
        elif kind == "word":
            number = draw(st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 30)))
            changed[at : at + 4] = number.to_bytes(4, "little")
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 200))]
        elif kind == "repeat":
            piece = changed[at : at + draw(st.integers(1, 600))]
            changed[at:at] = piece * draw(st.integers(1, 50))
        elif kind == "insert":
            changed[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            del changed[at:]
    return bytes(changed)


def survive(name, contents, read):
    """``read(content)`` on mutations of ``contents`` for SECONDS: it returns or refuses within limits."""
    outcomes, slowest, largest = {}, 0.0, 0

    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(contents).flatmap(mutations))
    def attempt(content):
        nonlocal slowest, largest
        tracemalloc.reset_peak()
        before, begun = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            read(content)
            outcome = "read"
        except MergedDiffusionError as error:
            outcome = type(error).__name__
        slowest = max(slowest, time.process_time() - begun)
        largest = max(largest, tracemalloc.get_traced_memory()[1] - before)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    tracemalloc.start()
    end = time.monotonic() + SECONDS
    try:
        for number in count():
            seed(number)(attempt)()
            if time.monotonic() > end:
                break
    finally:
        tracemalloc.stop()
    figures = f"slowest {slowest:.2f} s, peak {largest >> 20} MiB"
    print(f"{name}: {sum(outcomes.values())} files {outcomes}, {figures}", flush=True)
    assert slowest < SLOWEST
    assert largest < MEMORY
