"""What an evaluation reads and asks once, it does not read or ask again."""

from collections import Counter

import pytest

from merged_diffusion.runs import journal as journals
from merged_diffusion.runs import known_records


@pytest.fixture
def reads(monkeypatch):
    """How often each journal was read."""
    found = Counter()
    real = known_records.read_records, journals.parsed

    def read(path):
        found[str(path)] += 1
        return real[0](path)

    def parsed(content, path):
        found[str(path)] += 1
        return real[1](content, path)

    monkeypatch.setattr(known_records, "read_records", read)
    monkeypatch.setattr(journals, "parsed", parsed)
    return found


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["evaluation", "dry run"])
def test_every_journal_is_read_once(run_cli, experts, reads, options):
    pair = ("--likelihood-expert", experts("likelihood"), "--quality-expert", experts("quality"))
    nll = ("nll", "--data", "digits", *pair, "--eta", 0.3, "--compare", "--batch-size", 2, "--out", "run")
    assert run_cli(*nll, "--limit", 2, "--shard", "0/2").code == 0
    assert run_cli(*nll, "--limit", 2, "--shard", "1/2").code == 0
    reads.clear()
    result = run_cli(*nll, "--limit", 3, "--shard", "0/2", *options)
    assert result.code == 0, result.err
    assert len(reads) == 6  # of three models and two workers
    assert set(reads.values()) == {1}
