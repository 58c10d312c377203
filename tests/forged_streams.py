"""Decodes streams that no encoder wrote, in a process of its own: it may not crash.

Usage: ``python forged_streams.py COUNT``; the outcome of each stream is a line of output.
"""

from __future__ import annotations

import sys

import numpy as np

from caezip.errors import CorruptError
from caezip.pretrained import load_model
from decoders import decoded_both_ways


def forged(number: int) -> bytes:
    """Zeros, ones, small words that keep the coder's state near zero, noise, long escapes."""
    rng = np.random.default_rng(number)
    words = int(rng.choice([2, 20, 200, 5000]))
    kinds = [
        np.zeros(words, np.uint32),
        np.full(words, 0xFFFFFFFF, np.uint32),
        np.full(words, 0x0000000F, np.uint32),
        np.full(words, 0x0000FFFF, np.uint32),
        rng.choice(np.array([0xF, 0xFFFF, 0xFFFFFFFF, 0, 1], np.uint32), words),
        rng.integers(0, 1 << 32, words).astype(np.uint32),
        # an escape, then as many nibbles of 15 as fit: it makes the coder read on and on
        np.concatenate([[0xFFFF, 0], np.full(words, 0xFFFFFFFF)]),
        np.concatenate([[0xFFFF, 0], np.full(words, 0xF)]),
    ]
    return kinds[number % len(kinds)].astype("<u4").tobytes()


def outcome(number: int) -> str:
    rng = np.random.default_rng(1000 + number)
    grid = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    try:
        z, residual, coefficients = decoded_both_ways(
            load_model().coder,
            forged(number),
            int(rng.integers(100, 10_001)),
            grid,
            has_filter=bool(number % 2),
        )
    except CorruptError:
        return "refused"
    bounded = np.abs(z).max() <= 127 and np.abs(residual).max() <= 32767
    bounded = bounded and np.abs(coefficients).max() <= 127
    return "decoded" if bounded and residual.shape[1:] == grid else "wrong"


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        sys.stdout.write(outcome(number) + "\n")
