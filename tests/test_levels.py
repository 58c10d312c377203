"""Inputs in 256 levels: what torch's own operation makes of them, only faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from caezip.levels import see_inputs_in_levels


def in_levels(inputs: torch.Tensor, low: float, high: float) -> torch.Tensor:
    layer = nn.Identity()
    see_inputs_in_levels(
        nn.ModuleDict({"layer": layer}), {"layer": np.array([low, high], np.float32)}
    )
    out: torch.Tensor = layer(inputs)
    return out


@given(lowest=st.integers(-255, 0), step=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_levels_and_gradients_are_those_of_fake_quantisation(
    lowest: int, step: float, seed: int
) -> None:
    low, high = (float(np.float32(step * end)) for end in (lowest, lowest + 255))
    random = np.random.default_rng(seed).uniform(2 * low - 1, 2 * high + 1, (2, 3, 4, 5))
    mine, theirs = (torch.from_numpy(random.astype(np.float32)).requires_grad_() for _ in range(2))
    found = in_levels(mine, low, high)
    step = (high - low) / 255
    expected = torch.fake_quantize_per_tensor_affine(theirs, step, round(-low / step), 0, 255)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    weights = torch.arange(random.size, dtype=torch.float32).reshape(random.shape)
    torch.autograd.backward((found * weights).sum())
    torch.autograd.backward((expected * weights).sum())
    between = (mine > low) & (mine < high)  # at the ends, rounding decides what is outside
    assert mine.grad is not None
    assert theirs.grad is not None
    assert torch.equal(mine.grad[between], theirs.grad[between])
    beyond = (mine < low - step) | (mine > high + step)
    assert not mine.grad[beyond].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_levels_keep_type_and_layout(dtype: torch.dtype) -> None:
    inputs = torch.randn(1, 8, 5, 6).to(dtype, memory_format=torch.channels_last)
    found = in_levels(inputs, -1.0, 2.0)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
