"""ImageNet's photographs as two workloads take them: how many, which are in which split, and as which pixels. No jax.

Every training image comes to the device whole, squeezed to a square, and `crops` cuts out of it there. Images that are
evaluated come as the square in their middle. The small form takes the first few images of the first few classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data import image_folder, store
from harness.data.image_folder import Files, Index
from harness.errors import DataError
from harness.program.streaming import Column
from harness.program.workload import Shapes, Splits, split_shapes

if TYPE_CHECKING:
    import jax

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue over the training images, from 0 to 1; the numbers in general use."""


@dataclass(frozen=True)
class Form:
    """Which images are taken, and how large they are.

    Attributes:
      classes: the first so many are taken.
      train: training images in all.
      train_per_class: the first so many of a class; None: all that are there, which are `train` in all.
      slice_, validation, test: images of each class, in the order of the names of `val`: the slice is the beginning of
        validation, and test is what comes after it.
      stored: pixels a side of a training image on its way to the device.
      seen: pixels a side that the model sees.
    """

    classes: int
    train: int
    train_per_class: int | None
    slice_: int
    validation: int
    test: int
    stored: int
    seen: int


FULL = Form(1000, 1_281_167, None, slice_=10, validation=40, test=10, stored=320, seen=224)
SMALL = Form(4, 40, 10, slice_=2, validation=6, test=2, stored=48, seen=32)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of pixels from 0 to 255."""
    mean, deviation = (np.float32(values).reshape((1,) * (stored.ndim - 1) + (3,)) for values in (MEAN, DEVIATION))
    return (stored.astype("float32") / 255 - mean) / deviation


def shapes(form: Form, *, labels: bool, orders: int = 0) -> Shapes:
    """Return the shapes of the splits, with labels where asked for, with orders of so many patches in evaluation."""
    label = {"label": ((), "uint16")} if labels else {}
    order = {"order": ((orders,), "uint8")} if orders else {}
    counts = (form.train, *(form.classes * each for each in (form.slice_, form.validation, form.test)))
    train = {"image": ((form.stored, form.stored, 3), "uint8"), "size": ((2,), "uint16")}
    evaluation = {"image": ((form.seen, form.seen, 3), "uint8")}
    return split_shapes(counts, train | label, evaluation | label | order)


def splits(form: Form, *, labels: bool, mask: tuple[int, int] | None = None) -> Splits:
    """Return the splits. Rows of the training set are read when they are asked for, all others are decoded here.

    Training: {"image": uint8[n, S, S, 3], "size": uint16[n, 2]}, height and width before it was squeezed. Evaluation:
    {"image": uint8[n, s, s, 3]}, and {"order": uint8[n, P]} where `mask` gives P, the patches of an image, and the seed
    of their orders (`batches.fixed_orders`). Both: {"label": uint16[n]} where asked for.
    """
    from harness.data import jpeg

    from .batches import fixed_orders

    index = _index(form)
    files = _training(index, form)
    train: dict[str, Column] = {"image": jpeg.Images(files, form.stored, jpeg.squeezed), "size": files.sizes}

    held = index.splits["val"]
    held = held.take(interleaved(held.labels, form.classes)[: form.classes * (form.validation + form.test)])
    arrays = {"image": jpeg.Images(held, form.seen, jpeg.central)[np.arange(len(held))]}
    if labels:
        train["label"], arrays["label"] = files.labels, held.labels
    if mask is not None:
        arrays["order"] = fixed_orders(len(held), *mask)

    def part(start: int, end: int) -> dict[str, np.ndarray]:
        return {name: array[form.classes * start : form.classes * end] for name, array in arrays.items()}

    end = form.validation
    return Splits(train, part(0, form.slice_), part(0, end), part(end, end + form.test))  # type: ignore[arg-type]


def whole(form: Form, *, labels: bool, mask: tuple[int, int] | None = None) -> Splits:
    """Return `splits`, the training set decoded too."""
    found = splits(form, labels=labels, mask=mask)
    return replace(found, train={name: column[np.arange(form.train)] for name, column in found.train.items()})


def interleaved(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the places of the first image of each of the first classes, then of the second of each, and so on.

    `labels` are sorted.
    """
    starts = np.searchsorted(labels, np.arange(classes + 1))
    place = np.arange(starts[-1]) - starts[labels[: starts[-1]]]  # within its class
    return np.argsort(place, kind="stable")


def _index(form: Form) -> Index:
    """Return the index. Raises `DataError` where the folder holds other images than the form takes."""
    folder = store.root() / "imagenet"
    index = image_folder.read(folder)
    counts = {split: np.bincount(files.labels, minlength=form.classes) for split, files in index.splits.items()}
    held_out = form.validation + form.test
    if form.train_per_class is None:
        fits = len(index.classes) == form.classes and counts["train"].sum() == form.train
        fits = fits and bool((counts["val"] == held_out).all())
        wanted = f"{form.train:,} training images and {held_out} of each class in val, in {form.classes:,} classes"
    else:
        fits = len(index.classes) >= form.classes and all(
            (counts[split][: form.classes] >= least).all()
            for split, least in (("train", form.train_per_class), ("val", held_out))
        )
        wanted = (
            f"at least {form.train_per_class} training images and {held_out} in val of each of {form.classes} classes"
        )
    if not fits:
        held = " and ".join(f"{count.sum():,} in {split}" for split, count in counts.items())
        raise DataError(
            f"{folder} holds {held}, in {len(index.classes):,} classes; expected {wanted}. Put the missing ones in "
            f"their place, remove {folder / image_folder.INDEX}, then type: harness data get imagenet"
        )
    return index


def _training(index: Index, form: Form) -> Files:
    files = index.splits["train"]
    if form.train_per_class is None:
        return files
    return files.take(interleaved(files.labels, form.classes)[: form.classes * form.train_per_class])
