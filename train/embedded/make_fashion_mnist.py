"""Make fashion-mnist-10k.npz, the pictures that fbkit carries, from the public idx files.

    python train/embedded/make_fashion_mnist.py /usr/share/datasets/fashion-mnist

The folder is where Debian's package dataset-fashion-mnist puts them. Kept are the first 1,000 training
pictures of every class, in the original order, and all 10,000 test pictures. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

PER_CLASS = 1000


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def main(source: Path) -> None:
    images = read_idx(source / "train-images-idx3-ubyte.gz")
    labels = read_idx(source / "train-labels-idx1-ubyte.gz")
    first = np.sort(np.concatenate([np.flatnonzero(labels == label)[:PER_CLASS] for label in np.unique(labels)]))
    np.savez_compressed(
        Path(__file__).with_name("fashion-mnist-10k.npz"),
        train_images=images[first],
        train_labels=labels[first],
        test_images=read_idx(source / "t10k-images-idx3-ubyte.gz"),
        test_labels=read_idx(source / "t10k-labels-idx1-ubyte.gz"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
