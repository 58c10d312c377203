"""Decodes COUNT mutations of valid files: ``python tests/fuzz/fuzz_mutations.py 10000 [FIRST]``.

Mutation number N is the same every time as long as the weights and the golden files
are. Says how many ended how; a mutation with another end than an error or an image
of the header's size stops the run and is kept as ``crash-mutation``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fuzz_targets
import mutations
import seeds


def mutation(number: int) -> bytes:
    rng = np.random.default_rng(number)
    files = seeds.files()

    def choose(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    return mutations.mutated(files[number % len(files)], files, choose)


def count_outcomes(
    numbers: range, decode: Callable[[bytes], str] = fuzz_targets.decode
) -> Counter[str]:
    """How decoding each of these mutations ends: the error's name, or "decoded"."""
    outcomes: Counter[str] = Counter()
    for number in numbers:
        data = mutation(number)
        try:
            outcomes[decode(data)] += 1
        except Exception as error:
            Path("crash-mutation").write_bytes(data)
            raise AssertionError(f"mutation {number}, {len(data)} bytes") from error
    return outcomes


if __name__ == "__main__":
    count, first = (int(argument) for argument in [*sys.argv[1:3], "0"][:2])
    for outcome, number in count_outcomes(range(first, first + count)).most_common():
        sys.stdout.write(f"{number:6} {outcome}\n")
