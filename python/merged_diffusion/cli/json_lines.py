"""``--json-lines``: an object for each image and model as it is done, and the summary as the last line.

A run that is gone on with is told whole: what it held first, what other workers added last. Summary and lines
so are of the same images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from merged_diffusion.cli import output

if TYPE_CHECKING:
    from merged_diffusion.data.images import Data
    from merged_diffusion.jobs.evaluation import Evaluation
    from merged_diffusion.scores.record import Record


def line(model: str, record: Record, beside: Mapping[str, object]) -> dict[str, object]:
    """A record as it is printed: with what the data set knows of the image, without the file of versions."""
    values = record.as_dict()
    values.pop("environment", None)
    return {"id": values.pop("id"), **beside, "model": model, **values}


class Lines:
    """Prints each record of an evaluation once."""

    def __init__(self, data: Data, *, wanted: bool) -> None:
        self._wanted = wanted
        self._told: set[tuple[str, int]] = set()
        columns = data.columns if wanted else {}
        self._columns = {name: column.tolist() for name, column in columns.items()}
        self._positions = {int(image): k for k, image in enumerate(data.ids)} if wanted else {}

    def held(self, evaluation: Evaluation) -> None:
        """Those there are and that were not printed yet."""
        for model in evaluation.plan.models.models if self._wanted else ():
            for record in evaluation.held(model):
                if (model, record.id) not in self._told:
                    self.update(model, record)

    def update(self, model: str, record: Record) -> None:
        """One that is done; `BrokenPipeError` where nobody reads any more."""
        if self._wanted:
            self._told.add((model, record.id))
            position = self._positions.get(record.id)
            columns = {} if position is None else self._columns
            output.emit_line(line(model, record, {key: values[position] for key, values in columns.items()}))

    def tell(self, summary: Mapping[str, object]) -> None:
        """The object of ``--json``; as the last of many lines under a key that no image has."""
        output.emit_json({"summary": summary} if self._wanted else summary)
