"""Statistics under mutations: they are read or refused, quickly and within memory.

MERGED_DIFFUSION_FUZZ_SECONDS=600 python -m pytest -m slow tests/faults/fuzz_statistics.py
"""

import io
import pickle
import time
import tracemalloc
import zipfile
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.data.makers import zip_of
from tests.faults.fuzz_data import MEMORY, SECONDS, SLOWEST, mutations

from merged_diffusion import load_data
from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.quality import collect, read_statistics, write_statistics
from merged_diffusion.quality.features import pixels

pytestmark = pytest.mark.slow
TABLE = {"mu": np.zeros(3), "sigma": np.asfortranarray(np.eye(3))}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The arrays of a file of ours, as they are in it."""
    path = tmp_path_factory.mktemp("s") / "s.npz"
    data = load_data("digits").select(ids=(0, 40))
    write_statistics(path, collect(data, pixels((1, 8, 8), 17), 8))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("kind", ["npz", "member", "pickle"])
def test_reader_survives(kind, members, tmp_path):
    path, outcomes, slowest = tmp_path / "s", {}, 0.0

    def zipped(changed):
        stream = io.BytesIO()
        zip_of(stream, members | changed, zipfile.ZIP_STORED)
        return stream.getvalue()

    # A mutation of the archive would mostly meet its checksums; of a member, it is zipped anew.
    strategies = {
        "npz": mutations(zipped({})),
        "member": st.sampled_from(sorted(members)).flatmap(
            lambda name: mutations(members[name]).map(lambda content: zipped({name: content}))
        ),
        "pickle": st.sampled_from([pickle.dumps({"fid": TABLE}, protocol=n) for n in (2, 3, 4)]).flatmap(
            mutations
        ),
    }

    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies[kind])
    def attempt(content):
        nonlocal slowest
        path.write_bytes(content)
        begun = time.process_time()
        try:
            assert np.isfinite(read_statistics(path).law.covariance.numpy()).all()
            outcome = "read"
        except MergedDiffusionError as error:
            outcome = type(error).__name__
        slowest = max(slowest, time.process_time() - begun)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    tracemalloc.start()
    end = time.monotonic() + SECONDS
    try:
        for number in count():
            seed(number)(attempt)()
            if time.monotonic() > end:
                break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(
        f"{kind}: {sum(outcomes.values())} files {outcomes}, slowest {slowest:.2f} s, peak {peak >> 20} MiB"
    )
    assert slowest < SLOWEST
    assert peak < MEMORY
