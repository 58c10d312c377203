"""How the linear codec's model is made: ``python -m caezip_bench.peers.klt_training``.

``klt_model.npz`` holds ``basis``, float16 ``[192, 192]``, and the frequency tables
``frequencies``, ``lengths`` and ``offsets`` (`caezip.frequency_tables.FrequencyTables`). The tables
are stored, since a logarithm computed elsewhere may round differently.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from caezip.errors import ImageError
from caezip.frequency_tables import PRECISION_BITS, FrequencyTables
from caezip.image_io import image_files, read_rgb, write_atomically
from caezip_bench.entry import run_as_module
from caezip_bench.peers.klt import BLOCK_SIDE, COEFFICIENTS, ROUNDING, blocks_of

BLOCKS_PER_IMAGE = 2048
SMALLEST_PHOTOGRAPH = 64  # pixels a side
TABLES = 40
SMALLEST_DEVIATION, LARGEST_DEVIATION = 0.1, 100.0  # of the levels
SIDE_DEVIATION = 2.0  # of the differences between table numbers
TABLE_TAIL = 1e-5  # probability beyond a table, which the coder's escape takes


def learn_basis(files: Sequence[Path]) -> NDArray[np.float16]:
    """Orthonormal rows ``[192, 192]``, strongest first: the principal components of blocks.

    ``files`` are photographs. Jain 1989, "Fundamentals of Digital Image Processing",
    section 5.11. Raises ImageError for a file that cannot be read, and if none has 64
    pixels a side.
    """
    count, total = 0, np.zeros(COEFFICIENTS)
    products = np.zeros((COEFFICIENTS, COEFFICIENTS))
    for file in files:
        pixels = read_rgb(file)
        if min(pixels.shape[:2]) < SMALLEST_PHOTOGRAPH:
            continue
        # off the grid of a JPEG, whose quantisation would be learnt with the picture
        half = BLOCK_SIDE // 2
        blocks = blocks_of(pixels[half:-half, half:-half])[:, :-1, :-1].reshape(COEFFICIENTS, -1)
        blocks = blocks[:, :: max(1, blocks.shape[1] // BLOCKS_PER_IMAGE)].astype(np.float64)
        count += blocks.shape[1]
        total += blocks.sum(axis=1)
        products += blocks @ blocks.T
    if count == 0:
        raise ImageError(f"photographs: found none of {SMALLEST_PHOTOGRAPH} pixels a side or more")
    covariance = products / count - np.outer(total, total) / count**2
    basis = np.linalg.eigh(covariance)[1].T[::-1]
    # eigenvectors come with either sign: fix it, so that runs can be repeated
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.sign(basis[np.arange(COEFFICIENTS), largest])[:, None]
    half_precision: NDArray[np.float16] = basis.astype(np.float16)
    return half_precision


def laplacian_tables() -> FrequencyTables:
    """Frequencies of a Laplacian's levels, first `SIDE_DEVIATION`, then from small to large.

    Coefficients of image transforms are about Laplacian: E. Lam and J. Goodman, "A
    mathematical analysis of the DCT coefficient distributions for images", 2000.
    """
    parts, offsets = [], []
    deviations = np.geomspace(SMALLEST_DEVIATION, LARGEST_DEVIATION, TABLES - 1)
    for deviation in (SIDE_DEVIATION, *deviations.tolist()):
        scale = deviation / np.sqrt(2)
        radius = int(np.ceil(scale * np.log(1 / TABLE_TAIL))) + 1
        beyond = np.exp(-(np.arange(1, radius + 2) - ROUNDING) / scale)  # P(|level| ≥ 1, 2, …)
        side = -np.diff(beyond) / 2
        shares = np.concatenate([side[::-1], [1 - beyond[0]], side, beyond[-1:]])
        counts = 1 + np.floor(shares * ((1 << PRECISION_BITS) - len(shares))).astype(np.int64)
        counts[radius] += (1 << PRECISION_BITS) - counts.sum()
        parts.append(counts.astype(np.uint16))
        offsets.append(-radius)
    return FrequencyTables(
        np.concatenate(parts),
        np.array([len(part) for part in parts], np.int32),
        np.array(offsets, np.int32),
    )


@click.command("klt")
@click.argument(
    "folder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="FILE.npz",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the basis and the tables.",
)
@click.option("-f", "--force", is_flag=True, help="Replace FILE.npz if it exists.")
def klt_command(folder: Path, output: Path, force: bool) -> None:
    """Learn the linear codec's basis from the photographs in FOLDER and its subfolders.

    Never from pictures that codecs are compared on.
    """
    basis = learn_basis(image_files(folder, recursive=True))
    tables = laplacian_tables()
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        basis=basis,
        frequencies=tables.frequencies,
        lengths=tables.lengths,
        offsets=tables.offsets,
    )
    write_atomically(output, buffer.getvalue(), force=force)


if __name__ == "__main__":
    run_as_module(klt_command)
