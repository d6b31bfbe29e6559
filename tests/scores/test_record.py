"""Records: their lines are those that were always written, and what is none is refused."""

from pathlib import Path

import pytest

from merged_diffusion.runs.records import decode, encode
from merged_diffusion.scores.record import Record

# A line for each set of keys that nll and vlb write.
LINES = {
    f"{path.stem}-{number}": line
    for path in sorted((Path(__file__).parents[1] / "reference" / "records").glob("*.jsonl"))
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True))
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_read_and_written_to_the_last_byte(name):
    record = Record.from_dict(decode(LINES[name][:-1]))
    assert encode(record.as_dict()) == LINES[name]
    assert Record.from_dict(record.as_dict()) == record


def test_keys_of_others_are_left_out():
    line = {"id": 7, "status": "ok", "evaluations": {"likelihood": 3}, "mood": "good"}
    assert Record.from_dict(line) == Record(id=7, status="ok", evaluations={"likelihood": 3})


def test_a_loss_that_was_not_finite_is_read_as_none():
    lost = {"gamma": [[1.0]], "loss": [[float("nan")]]}
    record = Record(id=0, status="nonfinite", evaluations={}, profile=lost)
    assert Record.from_dict(decode(encode(record.as_dict())[:-1])).profile["loss"] == [[None]]


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        *(("id", wrong) for wrong in (None, 1.5, True, "7")),
        *(("status", wrong) for wrong in (None, 3)),
        *(("bits_per_dim", wrong) for wrong in ("3.1", True, [3.1])),
        *(("terms_nats", wrong) for wrong in ([1.0], {"trace": "x"})),
        *(("evaluations", wrong) for wrong in (None, 7, {"likelihood": 1.5})),
        *(("draws", wrong) for wrong in (1.0, ["x"])),
        ("profile", {"gamma": [1.0]}),
        ("rebatched", "yes"),
    ],
)
def test_values_of_another_type_are_refused(key, wrong):
    line = {"id": 7, "status": "ok", "evaluations": {}} | {key: wrong}
    with pytest.raises(TypeError, match="belongs"):
        Record.from_dict(line)


@pytest.mark.parametrize("key", ["id", "status", "evaluations"])
def test_a_record_names_its_image_its_status_and_its_cost(key):
    line = {"id": 7, "status": "ok", "evaluations": {}}
    del line[key]
    with pytest.raises(TypeError, match=key):
        Record.from_dict(line)
