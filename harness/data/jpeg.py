"""Photographs as arrays: JPEG files decoded by pillow, in threads.

pillow lets other threads run while it decodes and resizes, so that threads do what processes would, without copies
between them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, UnidentifiedImageError

from harness.data.image_folder import Files
from harness.errors import DataError
from harness.machine.hardware import usable_cores

FORMATS = ("JPEG", "PNG")  # ImageNet has a PNG among its files called JPEG
_RESAMPLING = Image.Resampling.BICUBIC  # pillow's, which averages over what it shrinks
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what pillow raises of damaged bytes


Fit = Callable[[Image.Image, int], Image.Image]
"""Makes a square of so many pixels a side of an image that is open but not decoded yet."""


def squeezed(image: Image.Image, side: int) -> Image.Image:
    """Return the whole image; what is not square is squeezed along its longer side."""
    image.draft("RGB", (side, side))  # decodes at 1/2, 1/4 or 1/8 where that is as large still
    return image.convert("RGB").resize((side, side), _RESAMPLING)


def central(image: Image.Image, side: int) -> Image.Image:
    """Return the square in the middle, of 7/8 of the shorter side: to 224 pixels, as of an image resized to 256."""
    image.draft("RGB", (-(-side * 8 // 7),) * 2)
    width, height = image.size
    inner = 7 / 8 * min(width, height)
    left, top = (width - inner) / 2, (height - inner) / 2
    return image.convert("RGB").resize((side, side), _RESAMPLING, box=(left, top, left + inner, top + inner))


class Images:
    """Files as if they were an array uint8[files, side, side, 3]: `images[rows]` reads and decodes these alone.

    Attributes:
      shape, dtype: of the array that it stands for.
    """

    def __init__(self, files: Files, side: int, fit: Fit, threads: int | None = None):
        """`threads` decode side by side; by default as many as there are cores."""
        self._files, self._side, self._fit = files, side, fit
        self._threads = threads or usable_cores()
        self.shape, self.dtype = (len(files), side, side, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8[len(rows), side, side, 3]: a pure function of the rows and the files.

        Raises `DataError` naming a file that cannot be read, is not what was indexed, or does not decode.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()}, there are {len(self)}")
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def decode(first: int) -> None:
            for place in range(first, len(rows), self._threads):
                found[place] = self._decoded(rows[place])

        with ThreadPoolExecutor(self._threads, "decoding") as pool:
            parts = [pool.submit(decode, first) for first in range(self._threads)]
        for part in parts:
            part.result()
        return found

    def _decoded(self, row: int) -> np.ndarray:
        content = self._files.read(row)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return np.asarray(self._fit(image, self._side))
        except _BROKEN as error:
            raise DataError(
                f"{self._files.path(row)} does not decode ({_why(error)}), as it did when indexed"
            ) from None


def size_of(content: bytes) -> tuple[int, int]:
    """Return (height, width) of an image, in pixels. `DataError` says why it does not decode to its end."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            image.draft("RGB", (1, 1))  # reads as many bytes and makes fewer pixels
            image.load()
    except _BROKEN as error:
        raise DataError(_why(error)) from None
    return height, width


def _why(error: Exception) -> str:
    return "no image" if isinstance(error, UnidentifiedImageError) else str(error)
