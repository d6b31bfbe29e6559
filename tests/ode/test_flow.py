"""The probability flow: eps_hat and the trace along a probe, one network call for both."""

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.gaussian import GaussianMixtureExpert
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Probes
from merged_diffusion.ode.probes import EXACT_DIM, make_directions, unpacked
from merged_diffusion.scores.prepared import frozen

SHAPE, D, N = (1, 3, 4), 12, 5
CPU = torch.device("cpu")
GAMMA = np.array([-8.0, -3.0, 0.0, 2.0, 5.0])
NODES = np.zeros(N, dtype=np.uint64)
KEYS = np.arange(N, dtype=np.uint64)
Z = np.random.default_rng(0).standard_normal((N, D))
ITEMS = Items(np.array([3, 0, 7, 1, 9], dtype=np.uint64))


def mixture():
    means = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (3, *SHAPE)))
    return GaussianMixtureExpert(means, variance=0.1)


def probes(kind="fixed", count=1, items=ITEMS, rows=N, dtype=torch.float64):
    return make_directions(Probes(count, kind, "independent"), items, Place(CPU, dtype, rows), (1, 1, D))


def flow(expert, kind="fixed", count=1, items=ITEMS, dtype=torch.float64):
    return ProbabilityFlow(expert, SHAPE, probes(kind, count, items, dtype=dtype), items)


def jacobians(expert, z):
    """d eps_hat/dz of each row alone [N, d, d]."""

    def row(gamma):
        return lambda x: expert(x.view(1, *SHAPE), torch.tensor([gamma])).flatten()

    return [torch.autograd.functional.jacobian(row(g), x) for g, x in zip(GAMMA, z, strict=True)]


def directions(made, keys=KEYS, node=0):
    return [v.clone() for v in made.directions(keys, np.full(len(keys), node, np.uint64))]


@pytest.mark.parametrize(("kind", "count"), [("fixed", 1), ("fixed", 3), ("gaussian", 1), ("gaussian", 2)])
def test_q_is_sigma_times_the_mean_of_v_j_v(kind, count):
    expert, z = mixture(), torch.from_numpy(Z)
    eps_hat, q = flow(expert, kind, count)(z, GAMMA, NODES, KEYS)
    torch.testing.assert_close(eps_hat, expert(z.view(-1, *SHAPE), torch.from_numpy(GAMMA)).view(N, D))
    vs = directions(probes(kind, count))
    for row, jacobian in enumerate(jacobians(expert, z)):
        expected = np.mean([float(v[row] @ jacobian @ v[row]) for v in vs]) * _core.sigma(GAMMA[row])
        assert float(q[row]) == pytest.approx(expected, rel=1e-10)


def test_exact_probe_gives_the_trace():
    expert, z = mixture(), torch.from_numpy(Z)
    _, q = flow(expert, "exact")(z, GAMMA, NODES, KEYS)
    gamma = torch.from_numpy(GAMMA)
    expected = torch.from_numpy(_core.sigma(GAMMA)) * expert.trace(z.view(-1, *SHAPE), gamma)
    torch.testing.assert_close(q, expected, rtol=1e-10, atol=0)


def test_network_is_called_once_for_both_and_in_its_dtype():
    seen = []

    class Recording(torch.nn.Module):
        name = "recording"

        def forward(self, z, gamma, cond=None):
            seen.append((z.shape, z.dtype, gamma.dtype, cond))
            return 2 * z

    eps_hat, q = flow(Recording(), count=2, dtype=torch.float32)(
        torch.from_numpy(Z).float(), GAMMA, NODES, KEYS
    )
    assert seen == [((N, *SHAPE), torch.float32, torch.float64, None)]
    assert (eps_hat.dtype, q.dtype) == (torch.float32, torch.float64)
    np.testing.assert_allclose(q, 2 * D * _core.sigma(GAMMA), rtol=1e-12)


def test_probe_belongs_to_image_and_draw_whatever_row_it_is_in():
    items = Items(np.array([5, 8], dtype=np.uint64), n_draws=3, seed=4)
    made = probes(items=items, rows=3)
    (before,) = directions(made, np.array([0, 1, 4], dtype=np.uint64))
    (after,) = directions(made, np.array([4, 1, 5], dtype=np.uint64))
    assert torch.equal(after[0], before[2])
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[2], before[2])
    # The same image and draw under another position, another number of draws, other neighbours.
    (alone,) = directions(
        probes(items=Items(np.array([8], np.uint64), 2, 4), rows=1), np.array([1], np.uint64)
    )
    assert torch.equal(alone[0], before[2])
    other = Items(items.ids, n_draws=3, seed=5)
    assert not torch.equal(directions(probes(items=other, rows=1), KEYS[:1])[0][0], before[0])


@pytest.mark.parametrize("kind", ["fixed", "gaussian"])
def test_probe_stays_the_same_within_a_solve(kind):
    made = probes(kind, 2)
    first, again = directions(made), directions(made, node=3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    # A problem that left its row and came back meets them again, other rows' problems changing or not.
    directions(made, KEYS[::-1])
    back = directions(made)
    assert all(torch.equal(a, b) for a, b in zip(first, back, strict=True))


def test_fresh_probe_belongs_to_its_node_whatever_came_before():
    made = probes("fresh", 2)
    first, second = directions(made, node=1), directions(made, node=2)
    retried, later = directions(made, node=2), directions(probes("fresh", 2), node=2)
    for a, b, c, d in zip(first, second, retried, later, strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(b, d)
    # One row moves on to its next node: the others keep theirs.
    nodes = np.full(N, 2, np.uint64)
    nodes[1] += 1
    moved = [v.clone() for v in made.directions(KEYS, nodes)]
    assert [torch.equal(a, b) for a, b in zip(moved[0], second[0], strict=True)] == [i != 1 for i in range(N)]


def test_signs_are_unpacked_lowest_bit_first():
    packed = torch.tensor([[0b00000101, 0b11111110]], dtype=torch.uint8)
    found = unpacked(packed, 10, torch.float32)
    assert found.tolist() == [[1, -1, 1, -1, -1, -1, -1, -1, -1, 1]]


def test_exact_trace_of_many_values_is_refused_with_its_cost():
    with pytest.raises(UsageError, match=f"{EXACT_DIM + 1} vector-Jacobian products") as refused:
        make_directions(Probes(kind="exact"), ITEMS, Place(CPU, torch.float32, 1), (1, 1, EXACT_DIM + 1))
    assert "dopri5 takes fixed ones, adams takes fresh ones" in refused.value.hint


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_row_that_is_not_finite_leaves_the_others_alone(value):
    expert = mixture()

    def holed(z, gamma, cond=None):
        row = (gamma == GAMMA[2]).view(-1, 1, 1, 1)
        return expert(z, gamma) * torch.where(row, value, 1.0)

    holed.name = "holed"
    eps_hat, q = flow(holed)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    whole, q_whole = flow(expert)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    others = [0, 1, 3, 4]
    assert not bool(eps_hat[2].isfinite().all())
    assert not bool(q[2].isfinite())
    assert torch.equal(eps_hat[others], whole[others])
    assert torch.equal(q[others], q_whole[others])


@pytest.mark.parametrize(
    "make", [lambda z: torch.ones_like(z), lambda z: torch.ones_like(z) + 0 * z.detach()]
)
def test_expert_that_does_not_depend_on_z_has_no_trace(make):
    def constant(z, gamma, cond=None):
        return make(z)

    constant.name = "constant"
    _, q = flow(constant)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    assert not q.any()


def test_parameters_that_want_gradients_do_not_make_a_constant_fail():
    bias = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def constant(z, gamma, cond=None):
        return bias.expand_as(z)

    constant.name = "constant"
    _, q = flow(constant)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    assert not q.any()


@pytest.mark.parametrize("give", [lambda z: z, lambda z: z.view(z.shape)])
def test_output_is_never_the_input(give):
    def identity(z, gamma, cond=None):
        return give(z)

    identity.name = "identity"
    z = torch.from_numpy(Z.copy())
    eps_hat, q = flow(identity)(z, GAMMA, NODES, KEYS)
    z.zero_()
    np.testing.assert_array_equal(eps_hat, Z)
    np.testing.assert_allclose(q, D * _core.sigma(GAMMA))


def test_output_is_flat_and_contiguous_whatever_the_memory_format():
    def last(z, gamma, cond=None):
        return (3 * z).contiguous(memory_format=torch.channels_last).permute(0, 1, 2, 3)

    last.name = "last"
    items = Items(ITEMS.ids)
    made = make_directions(Probes(kind="fixed"), items, Place(CPU, torch.float64, N), (3, 2, 2))
    eps_hat, _ = ProbabilityFlow(last, (3, 2, 2), made, items)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    assert eps_hat.is_contiguous()
    np.testing.assert_array_equal(eps_hat, 3 * Z)


def test_gradient_may_lie_in_memory_in_any_order():
    def turned(z, gamma, cond=None):
        return 0.5 * z.transpose(2, 3)

    turned.name = "turned"
    shape = (3, 2, 2)
    made = make_directions(Probes(kind="fixed"), ITEMS, Place(CPU, torch.float64, N), (3, 2, 2))
    _, q = ProbabilityFlow(turned, shape, made, ITEMS)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    (v,) = directions(make_directions(Probes(kind="fixed"), ITEMS, Place(CPU, torch.float64, N), (3, 2, 2)))
    image = v.view(N, *shape)
    expected = 0.5 * (image * image.transpose(2, 3)).flatten(1).sum(1).numpy() * _core.sigma(GAMMA)
    np.testing.assert_allclose(q, expected, rtol=1e-12)


def test_labels_travel_with_their_problem():
    seen = []

    def conditional(z, gamma, cond=None):
        seen.append(cond.tolist())
        return z * cond.view(-1, 1, 1, 1)

    conditional.name = "conditional"
    items = Items(ITEMS.ids, n_draws=2, labels=np.array([10, 11, 12, 13, 14]))
    made = flow(conditional, items=items)
    made(torch.from_numpy(Z), GAMMA, NODES, np.array([0, 3, 9, 1, 4], dtype=np.uint64))
    made(torch.from_numpy(Z), GAMMA, NODES, np.array([6, 3, 9, 1, 4], dtype=np.uint64))
    assert seen == [[10, 11, 14, 10, 12], [13, 11, 14, 10, 12]]


def test_wrong_shape_in_the_middle_of_a_run_is_an_expert_error():
    def short(z, gamma, cond=None):
        return z[:, :, :1]

    short.name = "short"
    with pytest.raises(ExpertError, match="short returned shape"):
        flow(short)(torch.from_numpy(Z), GAMMA, NODES, KEYS)


def test_exception_of_the_expert_is_the_cause_of_an_expert_error():
    problem = ZeroDivisionError("mine")

    def raising(z, gamma, cond=None):
        raise problem

    raising.name = "raising"
    with pytest.raises(ExpertError, match="expert raising raised ZeroDivisionError: mine") as caught:
        flow(raising)(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    assert caught.value.__cause__ is problem


def test_parameters_are_frozen_only_inside():
    net = torch.nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    with frozen([net, lambda z: z], device=CPU, dtype=torch.float64):
        assert not any(p.requires_grad for p in net.parameters())
        assert net.weight.dtype == torch.float64
    assert (net.weight.requires_grad, net.bias.requires_grad) == (True, False)


def test_weights_are_not_rounded_for_good():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).double().eval()
    torch.nn.init.constant_(net[0].weight, 0.1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with frozen([net, net[0]], device=CPU, dtype=torch.float32):
        assert net[1].running_mean.dtype == net[0].weight.dtype == torch.float32
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float64, torch.int64}
    assert net[0].weight.requires_grad


def test_time_in_the_network_is_measured():
    made = flow(mixture())
    assert made.network.seconds == 0
    made(torch.from_numpy(Z), GAMMA, NODES, KEYS)
    assert 0 < made.network.seconds < 60
