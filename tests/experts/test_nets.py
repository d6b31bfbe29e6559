"""The small networks: they begin as zero, couple no rows, and take exactly the table of a card."""

import pytest
import torch

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets.small import build

TABLES = {
    "mlp": {"type": "mlp", "width": 24, "blocks": 2, "dropout": 0.1},
    "unet": {"type": "unet", "channels": [8, 16], "dropout": 0.1},
    "unet of three": {"type": "unet", "channels": [8, 16, 24], "dropout": 0.1},
}


def network(kind, *, awake=False):
    torch.manual_seed(0)
    net = build(TABLES[kind], 3, (1, 6, 8)).eval()
    if awake:
        for p in net.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("kind", TABLES)
def test_output_begins_at_zero(kind):
    out = network(kind)(torch.randn(2, 3, 6, 8), torch.tensor([0.1, 0.9]))
    assert out.shape == (2, 1, 6, 8)
    assert (out == 0).all()


@pytest.mark.parametrize("kind", TABLES)
def test_a_row_does_not_see_its_neighbours(kind):
    net = network(kind, awake=True)
    x, u = torch.randn(16, 3, 6, 8), torch.rand(16)
    together = net(x, u)
    other = x.clone()
    other[0] = 100.0
    assert torch.equal(net(other, u)[1:], together[1:])
    # Two rows alone are other sums: in float64, of 1e3 terms at most and a dozen layers, 12 * 1e3 * 2^-53.
    net, x, u = net.double(), x.double(), u.double()
    torch.testing.assert_close(net(x, u)[3:5], net(x[3:5], u[3:5]), rtol=2e-12, atol=2e-12)


@pytest.mark.parametrize("kind", TABLES)
def test_every_parameter_matters(kind):
    net = network(kind, awake=True)
    net(torch.randn(4, 3, 6, 8), torch.rand(4)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", TABLES)
def test_output_is_smooth_in_the_noise_level(kind):
    net = network(kind, awake=True).double()
    x, u = torch.randn(1, 3, 6, 8).double(), torch.tensor([0.5], dtype=torch.float64)
    steps = [(net(x, u + h) - net(x, u - h)) / (2 * h) for h in (1e-5, 1e-6)]
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "vit"}, "'vit' is neither"),
        ({"depth": 3}, "depth"),
        ({"width": "wide"}, "width"),
        ({"width": None}, "width"),
    ],
)
def test_table_with_other_keys_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        build(TABLES["mlp"] | change, 3, (1, 6, 8))


def test_a_network_of_two_resolutions_has_the_names_of_the_files_and_their_order():
    """Seeded weights rest on the order."""
    children = [name for name, _ in network("unet").named_children()]
    assert children == [
        "embedding", "conv_in", "down0", "shrink", "down1", "middle", "attention", "up1a", "up1b", "grow",
        "up0a", "up0b", "norm", "conv_out",
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [[8], [8, 12], [8, 16, 0], [8, "16"], [8.0, 16]])
def test_channels_that_do_not_fit_are_refused(channels):
    with pytest.raises(CheckpointError, match="two or more multiples of 8"):
        build(TABLES["unet"] | {"channels": channels}, 3, (1, 6, 8))
