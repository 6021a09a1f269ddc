"""The data sets there are: where each comes from, its licence, its sizes, and the hashes that identify it.

What identifies a set is the hash of its prepared arrays (`store.content_sha256`): any source that gives them is as good
as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from harness.data import books, cifar10, digits, grammar, shakespeare
from harness.errors import DataError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class File:
    """A file that a set is prepared from.

    Attributes:
      name: what it is called where it is kept.
      url: its public address; None where only a mirror has it.
      sha256: of the file at the public address; None where its host does not promise the same bytes for ever, and only
        its content can be checked.
      bytes: of the file at the public address; about, where sha256 is None.
      mirror: where it lies in a mirror, relative to its top; the first that is there is taken. A mirror may pack the
        same content otherwise, so the file's own hash is not asked of it.
      note: what to know where it cannot be had.
    """

    name: str
    url: str | None
    sha256: str | None
    bytes: int
    mirror: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
      name: as workloads and `harness data` call it.
      what: in a line.
      source: its home, for people.
      licence, citation: as its authors ask.
      sha256: of the prepared arrays.
      prepared_bytes: of the prepared arrays.
      prepare: makes the arrays out of the paths of `files`, in their order; raises `DataError` for damaged ones.
      files: what to download; none for a set that the harness brings itself.
      facts: what goes with the arrays, kept beside them: "bytes" of the text of each split, say.
      shards: training shards that the workloads take, of a set that is kept as published (`harness.data.sharded`): the
        first of its files is the validation shard. It has no arrays, and no hash is pinned. 0 for all other sets.
      vocabulary: of a set of shards: its tokens are less.
      images: whether it is a folder of classes of images (`harness.data.image_folder`), which people put in its place.
        It has no arrays, nothing is downloaded, and no hash is pinned.
    """

    name: str
    what: str
    source: str
    licence: str
    citation: str
    sha256: str
    prepared_bytes: int
    prepare: Callable[..., Arrays]
    files: tuple[File, ...] = ()
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    shards: int = 0
    vocabulary: int = 0
    images: bool = False

    @property
    def embedded(self) -> bool:
        """Whether the harness brings it, so that there is nothing to get."""
        return not self.files and not self.images


_BOOKS = "944882722e9a96fa6cf2739dc2ea757e101f412f"  # the commit

_FINEWEB = "https://huggingface.co/datasets/kjj0/fineweb10B-gpt2/resolve/main"


def _no_arrays(*_: object) -> Arrays:
    raise DataError("a set that is kept as published has no arrays; see harness.data.shards and image_folder")


def _shard(name: str) -> File:
    return File(name, f"{_FINEWEB}/{name}", None, 200_001_024, (f"fineweb/{name}",))


_ALL = (
    DataSet(
        name="digits",
        what="1,797 handwritten digits of 8x8 pixels, in scikit-learn's wheel",
        source="https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
        citation="Alpaydin and Kaynak (1998), Optical recognition of handwritten digits",
        sha256="d1ae153bd86ca43a40e617b72e0647981263a21403a45190594fad80f41c8068",
        prepared_bytes=116_805,
        prepare=digits.arrays,
    ),
    DataSet(
        name="grammar",
        what="2.6 million characters of English-like text with a known entropy, drawn when loaded",
        source="harness/data/grammar.py",
        licence="Apache-2.0, as the harness",
        citation="none",
        sha256="977092a683260ac08992d06f038490266f71d6f42969b5f339232e2916c0cd4b",
        prepared_bytes=2_629_120,
        prepare=grammar.windows,
    ),
    DataSet(
        name="tinyshakespeare",
        what="1.1 million characters of Shakespeare's plays",
        source="https://github.com/karpathy/char-rnn",
        licence="public domain",
        citation="Karpathy (2015), The unreasonable effectiveness of recurrent neural networks",
        sha256="606a78dcbb1107d48679e3486fca395366b1afa678462fd9367c6bca101137dd",
        prepared_bytes=1_115_459,
        prepare=shakespeare.prepare,
        files=(
            File(
                name="input.txt",
                url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                sha256=shakespeare.SHA256,
                bytes=1_115_394,
                mirror=("tinyshakespeare/input.txt",),
            ),
        ),
    ),
    DataSet(
        name="cifar10",
        what="60,000 colour photographs of 32x32 pixels in 10 classes",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; not to be redistributed",
        citation="Krizhevsky (2009), Learning multiple layers of features from tiny images",
        sha256="9a39c601f694b1d8553d0fe30b1cfbb0fd7af024f923c557cb24a78879b231e5",
        prepared_bytes=184_380_000,
        prepare=cifar10.prepare,
        files=(
            File(
                name="cifar-10-python.tar.gz",
                url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                bytes=170_498_071,
                mirror=("cifar10/cifar-10-python.tar.gz", "cifar10/cifar-10-python.tar.xz"),
            ),
        ),
    ),
    DataSet(
        name="classic_books",
        what="295 books up to 1929, split by author, as 8,192 byte-pair tokens",
        source="https://github.com/mlschmitt/classic-books-markdown",
        licence="public domain",
        citation="none asked",
        sha256="f2ee273b00c5f7ab95ca943f6ee82e98ddb9fce0bc79e05685d02de5be14eb37",
        prepared_bytes=65_489_616,
        prepare=books.prepare,
        files=(
            File(
                name="manifest.json",
                url=None,
                sha256=books.MANIFEST_SHA256,
                bytes=59_562,
                mirror=("classic-books/manifest.json",),
                note=(
                    "It lists which books are taken and which authors are held out, which the public archive does not "
                    "tell and no script here makes again: without a copy the set cannot be had. The large language "
                    "model on public text is the workload lm_fineweb"
                ),
            ),
            File(
                name=f"classic-books-markdown-{_BOOKS}.tar.gz",
                url=f"https://codeload.github.com/mlschmitt/classic-books-markdown/tar.gz/{_BOOKS}",
                sha256=None,  # GitHub packs an archive anew when it likes
                bytes=100_000_000,  # a guess by the number of its books; a mirror needs to hold only those listed
                mirror=(
                    f"classic-books/classic-books-markdown-{_BOOKS}.tar.gz",
                    f"classic-books/classic-books-markdown-{_BOOKS}.tar.xz",
                ),
            ),
        ),
        facts=MappingProxyType({"bytes": {"train": 121_421_944, "validation": 4_000_056, "test": 4_077_518}}),
    ),
    DataSet(
        name="fineweb",
        what="10 billion tokens (GPT-2's) of web pages, in shards of 100 million",
        source="https://huggingface.co/datasets/HuggingFaceFW/fineweb",
        licence="ODC-By 1.0",
        citation="Penedo et al. (2024), The FineWeb datasets, arXiv:2406.17557",
        sha256="",
        prepared_bytes=51 * 200_001_024,
        prepare=_no_arrays,
        files=tuple(
            _shard(name) for name in ("fineweb_val_000000.bin", *(f"fineweb_train_{n:06d}.bin" for n in range(1, 104)))
        ),
        shards=50,
        vocabulary=50_257,
    ),
    DataSet(
        name="imagenet",
        what="1.33 million photographs in 1,000 classes (ILSVRC 2012), a folder of JPEG files for each",
        source="https://www.image-net.org/download.php",
        licence="for research, after registration; not to be redistributed",
        citation="Russakovsky et al. (2015), ImageNet large scale visual recognition challenge, arXiv:1409.0575",
        sha256="",
        prepared_bytes=154_600_000_000,  # about: the files
        prepare=_no_arrays,
        images=True,
    ),
)
DATASETS: dict[str, DataSet] = {dataset.name: dataset for dataset in _ALL}


def get_command(*names: str) -> str:
    """Return what to type to get data sets; it names a mirror where some file has no public address."""
    files = [file for name in names if name in DATASETS for file in DATASETS[name].files]
    mirror = " --mirror DIR" if any(file.url is None for file in files) else ""
    shards = max((DATASETS[name].shards for name in names if name in DATASETS), default=0)
    return f"harness data get {' '.join(names)}{f' --shards {shards}' if shards else ''}{mirror}"
