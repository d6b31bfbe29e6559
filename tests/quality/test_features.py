"""Feature networks: an image's features are its own, and the bundled ones are what their recipe says."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merged_diffusion import load_data
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.quality.features import BUNDLED, extractor, pixels
from merged_diffusion.quality.networks import PHOTOS, SCENES, Classifier, RandomConvolutions, Whitening
from merged_diffusion.quality.statistics_files import read_statistics


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "dim"), [("digits", 32), ("photos", 64), ("scenes", 64)])
def test_features_of_an_image_do_not_depend_on_its_neighbours(name, dim):
    images = load_data(name).images
    features = extractor(name)
    whole = features(images)
    assert whole.shape == (360, dim)
    for positions in ([7], [7, 3, 300], np.arange(100, 357)):
        np.testing.assert_array_equal(features(images[positions]), whole[positions])


@pytest.mark.parametrize("name", ["digits", "photos", "scenes"])
def test_features_have_mean_0_and_covariance_1_over_train(name):
    statistics = read_statistics(BUNDLED / f"{name}.npz")
    # The matrix is kept in float32, and the features are.
    np.testing.assert_allclose(statistics.law.mean.numpy(), 0, atol=1e-4)
    np.testing.assert_allclose(statistics.law.covariance.numpy(), np.eye(statistics.law.dim), atol=2e-3)


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_bundled_statistics_are_of_the_bundled_network(name):
    statistics = read_statistics(BUNDLED / f"{name}.npz")
    train = load_data(name, split="train")
    n = len(statistics.reference)
    kept = train.select(limit=n)
    # Stored in half precision.
    np.testing.assert_allclose(
        extractor(name)(kept.images[:500]), statistics.reference[:500], rtol=2e-3, atol=2e-3
    )


def test_what_hardly_varies_is_not_blown_up_without_bound():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 3, generator=random, dtype=torch.float64)
    features[:, 2] = features[:, 1] + 1e-6 * features[:, 2]
    whitening = Whitening(3)
    whitening.fit(features)
    variance = whitening(features.float()).var(dim=0)
    # The difference of the last two has variance 1e-12/1e-3, so each keeps half of their sum's 1.
    np.testing.assert_allclose(variance.numpy(), [1, 0.5, 0.5], rtol=0.01)


def test_classifier_knows_98_of_100_digits():
    network, test = Classifier().eval(), load_data("digits")
    network.load_state_dict(load_file(BUNDLED / "digits.safetensors"))
    logits = network.logits(torch.from_numpy(pixel_values(test.images, test.levels)).float())
    assert (logits.argmax(dim=1).numpy() == test.labels).mean() > 0.98


@pytest.mark.parametrize(("name", "layers"), [("photos", PHOTOS), ("scenes", SCENES)])
def test_random_convolutions_are_those_of_their_seed(name, layers):
    network = RandomConvolutions(layers)
    network.draw()
    drawn = {key: value for key, value in network.state_dict().items() if key.startswith("layers")}
    shipped = load_file(BUNDLED / f"{name}.safetensors")
    for key, value in drawn.items():
        assert torch.equal(value, shipped[key]), key


def test_pixels_are_the_centred_values():
    images = np.array([[[[0, 16]]], [[[8, 3]]]], dtype=np.uint8)
    np.testing.assert_array_equal(pixels((1, 1, 2), 17)(images), (2 * (images.reshape(2, 2) + 0.5)) / 17 - 1)


def test_other_levels_and_shapes_are_refused():
    data = load_data("photos")
    with pytest.raises(DataError, match="photos: images of 256 grey levels, digits features take 17"):
        extractor("digits").check(data)
    wide = make_data("wide", "test", np.arange(2 * 3 * 8 * 9, dtype=np.uint8).reshape(2, 3, 8, 9), 256)
    with pytest.raises(DataError, match=r"shape \[3, 8, 9\], photos features are of \[3, 8, 8\]"):
        extractor("photos").check(wide)


def test_unknown_features_are_refused():
    with pytest.raises(UsageError, match="no features are called 'resnet'"):
        extractor("resnet")


def test_a_few_patches_of_one_colour_are_patches():
    images = load_data("photos").images.copy()
    images[:3] = 255
    extractor("photos").check(make_data("samples", "test", images, 256))
