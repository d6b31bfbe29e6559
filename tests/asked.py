"""Words of the command line as the objects that the Python calls take: tests that vary one word use them."""

from merged_diffusion.experts.accept import Accept
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import WORDS, Probes, solver_of
from merged_diffusion.samplers import WORDS as OF_SAMPLERS
from merged_diffusion.samplers import sampler_of

PROBES = (("probe", "kind"), ("probes", "n"), ("scheme", "scheme"))
MACHINE = ("device", "dtype", "batch_size", "threads", "workspace", "profile_time")


def asked(**words):
    """Keyword arguments of `log_likelihood` and its like; what is no word of theirs is passed on."""
    solver = {name: words.pop(name) for name in WORDS if name in words}
    probes = {new: words.pop(old) for old, new in PROBES if old in words}
    machine = {name: words.pop(name) for name in MACHINE if name in words}
    accept = {
        new: words.pop(old)
        for old, new in (("batch_coupled", "batch_coupled"), ("accept_gradient", "gradient"))
        if old in words
    }
    found = {"solver": solver_of(solver)} if solver else {}
    found |= {"probes": Probes(**probes)} if probes else {}
    found |= {"machine": Machine(**machine)} if machine else {}
    found |= {"accept": Accept(**accept)} if accept else {}
    return found | words


def drawn(**words):
    """Keyword arguments of `draw`, likewise."""
    names = {"sampler", *(name for own in OF_SAMPLERS.values() for name in own)} - {"solver"}
    own = {name: words.pop(name) for name in names if name in words}
    found = asked(**words)
    return found | ({"sampler": sampler_of(own)} if own else {})
