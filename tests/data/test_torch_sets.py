"""Data sets of torch and of others: the same images, labels and ids as arrays of them."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.makers import pixels, png
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

import merged_diffusion as md
from merged_diffusion.data import load_data
from merged_diffusion.errors import DataError, UsageError

IMAGES = pixels(7, (3, 8, 8))
LABELS = np.arange(7) % 3
TENSORS = torch.from_numpy(IMAGES)


class Pictures(Dataset):
    """As torchvision's sets without a transform: PIL images with labels, and no IndexError at the end."""

    def __init__(self, images=IMAGES):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, position):
        image = self.images[position % len(self.images)].transpose(1, 2, 0)
        return Image.fromarray(image if image.shape[2] == 3 else image[..., 0]), int(LABELS[position % 7])


class Stream(IterableDataset):
    def __iter__(self):
        yield from TENSORS


class Known(Stream):
    def __len__(self):
        return 7


class Beside(Dataset):
    """Images with anything else."""

    def __init__(self, others):
        self.others = others

    def __len__(self):
        return 7

    def __getitem__(self, position):
        return TENSORS[position], self.others[position]


class Rows:
    """As a data set of Hugging Face."""

    def __init__(self, key="image", label="label"):
        self.key, self.label = key, label

    def __len__(self):
        return 7

    def __getitem__(self, position):
        return {self.key: Image.fromarray(IMAGES[position].transpose(1, 2, 0)), self.label: LABELS[position]}


def sampled(sampler, *, drops=False):
    return DataLoader(TENSORS, batch_sampler=BatchSampler(sampler(TENSORS), 3, drops))


LABELLED = {
    "tensors": TensorDataset(TENSORS, torch.from_numpy(LABELS)),
    "pictures": Pictures(),
    "rows": Rows(),
    "rows of cifar100": Rows("img", "fine_label"),
    "loader": DataLoader(TensorDataset(TENSORS, torch.from_numpy(LABELS)), batch_size=3),
    "loader of rows": DataLoader(
        [{"image": image, "label": int(label)} for image, label in zip(IMAGES, LABELS, strict=True)], 2
    ),
    "classes along an axis of one": TensorDataset(TENSORS, torch.from_numpy(LABELS)[:, None]),
    "loader without batches": DataLoader(TensorDataset(TENSORS, torch.from_numpy(LABELS)), batch_size=None),
    "loader with workers' order": DataLoader(
        TensorDataset(TENSORS, torch.from_numpy(LABELS)), 5, shuffle=False
    ),
}
BARE = {
    "stream": Stream(),
    "loader of a stream": DataLoader(Stream(), batch_size=3),
    "images alone": DataLoader(TENSORS, batch_size=4),
    "targets of a regression": TensorDataset(TENSORS, torch.linspace(0.1, 0.9, 7)),
    "masks": TensorDataset(TENSORS, TENSORS),
    "whole targets of a regression": TensorDataset(TENSORS, torch.arange(7.0)),
    "names": Beside([f"{k}.png" for k in range(7)]),
    "boxes": Beside([{"boxes": [1, 2]}] * 7),
    "pictures of masks": Beside([Image.new("L", (8, 8))] * 7),
    "batches by a sampler": DataLoader(
        TENSORS, batch_sampler=BatchSampler(SequentialSampler(TENSORS), 3, False)
    ),
    "stream of known length": Known(),
}


@pytest.mark.parametrize("source", LABELLED.values(), ids=LABELLED)
def test_images_labels_and_ids_are_those_of_the_set(source):
    data = load_data(source)
    assert data.sha256 == md.make_data("", "", IMAGES, 256).sha256
    assert data.ids.tolist() == list(range(7))
    assert data.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("source", BARE.values(), ids=BARE)
def test_what_is_no_class_is_no_label(source):
    data = load_data(source)
    assert np.array_equal(data.images, IMAGES)
    assert data.labels is None


def test_grey_pictures_have_one_channel():
    assert np.array_equal(load_data(Pictures(IMAGES[:, :1])).images, IMAGES[:, :1])


def test_folder_of_torchvision_names_its_files(tmp_path):
    folders = pytest.importorskip("torchvision.datasets")
    for position, image in enumerate(IMAGES):
        file = tmp_path / ("cat", "dog")[position % 2] / f"{position}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(image))
    data = load_data(folders.ImageFolder(tmp_path))
    assert data.files == tuple(
        path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))
    )
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_files_outside_their_root_keep_their_names():
    class Listed(Rows):
        root, samples = "/data", [(f"{k}.png", 0) for k in range(7)]

    assert load_data(Listed()).files == tuple(f"{k}.png" for k in range(7))


def test_likelihood_of_a_loader_is_that_of_its_images():
    photos = load_data("photos")[:5]
    model = md.load_expert("bundled:photos-vdm")
    loader = DataLoader(TensorDataset(torch.from_numpy(photos.images)), batch_size=2)
    again = md.log_likelihood(model, loader, ids=photos.ids)
    assert np.array_equal(again.bits_per_dim, md.log_likelihood(model, photos).bits_per_dim)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (DataLoader(Pictures(), shuffle=True), UsageError, "shuffle=False"),
        (DataLoader(TENSORS, batch_size=3, drop_last=True), UsageError, "drop_last"),
        (
            sampled(RandomSampler),
            UsageError,
            "shuffle",
        ),
        (
            sampled(SequentialSampler, drops=True),
            UsageError,
            "drop",
        ),
        (DataLoader([{"picture": image} for image in IMAGES]), DataError, "picture"),
        (TensorDataset(TENSORS / 255), DataError, "PILToTensor"),
        (TensorDataset(TENSORS[:, 0]), DataError, r"\[C, H, W\]"),
        (TensorDataset(TENSORS[:0]), UsageError, "no images"),
        (Rows("photo"), DataError, "image, img"),
        (3, UsageError, "neither|no name"),
    ],
)
def test_what_would_give_another_number_is_refused(source, error, text):
    with pytest.raises(error, match=text):
        load_data(source)


def test_images_of_two_sizes_are_refused_by_number():
    class Sizes(Rows):
        def __getitem__(self, position):
            return torch.zeros(3, 8 + position // 4, 8, dtype=torch.uint8)

    with pytest.raises(DataError, match="image 4") as refused:
        load_data(Sizes())
    assert refused.value.fields["image"] == 4


def test_pictures_with_alpha_are_refused():
    class Alpha(Rows):
        def __getitem__(self, position):
            return Image.new("RGBA", (8, 8))

    with pytest.raises(DataError, match="mode RGBA"):
        load_data(Alpha())
