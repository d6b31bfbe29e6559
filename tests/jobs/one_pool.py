"""A worker in this process, in the place of Ray: what it is given is pickled, and it may be lost."""

import os
import pickle

from merged_diffusion.jobs.crew import Ended, Failed, Items, Lost
from merged_diffusion.jobs.crew_shares import CrewShares
from merged_diffusion.jobs.ray_process import RayProcess
from merged_diffusion.runs import versions


class OnePool:
    """One worker; after ``loses`` of its words, by number, it is gone, and the next is hired in its place.

    ``most`` is the largest number of bytes that it was given.
    """

    def __init__(self, recipe, loses=()):
        self.recipe, self.process, self.said, self.stream = recipe, None, [], None
        self.loses, self.number, self.n_said, self.most = set(loses), -1, 0, 0

    def room(self):
        return 1

    def nodes(self):
        return frozenset(["here"])

    def hire(self):
        self.number += 1
        self.process = RayProcess(str(os.curdir))
        self.said.append((self.number, self.process.prepare(pickle.loads(pickle.dumps(self.recipe)))))
        return self.number

    def give(self, number, task):
        content = pickle.dumps(task)
        self.most = max(self.most, len(content))
        self.stream = self.process.compute(pickle.loads(content))

    def hear(self, seconds):
        found, self.said = self.said, []
        if not found and self.stream is not None:
            for message in next(self.stream):
                found.append((self.number, message))
                self.n_said += isinstance(message, Items)
                if isinstance(message, Ended | Failed):
                    self.stream = None
                elif self.n_said in self.loses:
                    self.loses.remove(self.n_said)
                    found.append((self.number, Lost("killed")))
                    break  # whatever it said after
        return found

    def dismiss(self, number):
        self.stream = None


def crew(recipe, loses=()):
    """The shares of one such worker."""
    return CrewShares(OnePool(recipe, loses), versions())
