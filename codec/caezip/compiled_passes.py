"""The two passes of a tile with the compiled loops: what `caezip.scales` computes, as it goes.

Products of matrices are numpy's, which is fast at them; indexes, symbols and evidence take one
run over the latent each. FORMAT.md has the rules ("Scale indexes").
"""

from __future__ import annotations

import math

import numpy as np

from caezip.compiled import CoderTables, HalfPass, StreamDecoder
from caezip.scales import Integers, IntegerScales, interpolated


def decoded_latent(
    decoder: StreamDecoder,
    tables: CoderTables,
    scales: IntegerScales,
    hyper_latent: Integers,
    quality_hundredths: int,
    grid: tuple[int, int],
    limit: int,
) -> Integers:
    """The residuals int32 ``[C, h, w]`` that follow the hyper-latent in a stream.

    Raises `SymbolBeyondLimitError` beyond ±``limit``.
    """
    bias = interpolated(scales.bias, quality_hundredths) + scales.half_step
    second_bias = bias + interpolated(scales.second_bias, quality_hundredths)
    residual = np.zeros((len(bias), *grid), np.int32)
    products = _Products(scales, hyper_latent)

    def half_pass(half: int, parity: int, biases: Integers) -> HalfPass:
        channels = scales.halves[half]
        return HalfPass(
            residual[channels], parity, scales.shift, products(half, parity), biases[channels]
        )

    # pass one codes the cells of a half's own parity, pass two the others
    evidence = [
        decoder.first_pass(tables, half_pass(half, half, bias), scales.evidence, limit)
        for half in (0, 1)
    ]
    for half in (0, 1):
        other = evidence[1 - half]
        # exact in float32 and in any order: partial sums stay below 2^24
        across = scales.packed_across[half] @ other.reshape(len(other), math.prod(other.shape[1:]))
        decoder.second_pass(
            tables,
            half_pass(half, 1 - half, second_bias),
            across.reshape(evidence[half].shape),
            evidence[half],
            scales.around[scales.halves[half]],
            scales.evidence_shift,
            limit,
        )
    return residual


class _Products:
    """``weight @ z`` of a half and parity: int32 ``[channels * 4 * 2, zh * zw]``."""

    def __init__(self, scales: IntegerScales, hyper_latent: Integers) -> None:
        self._weights = scales.packed_weights
        kind = scales.exact_type(hyper_latent)
        self._symbols = hyper_latent.reshape(len(hyper_latent), -1).astype(kind)

    def __call__(self, half: int, parity: int) -> Integers:
        weights = self._weights[half, parity].T.astype(self._symbols.dtype, copy=False)
        products: Integers = (weights @ self._symbols).astype(np.int32)
        return products
