"""Optimisers: SOAP for matrices, Adam for vectors, gains and what tables follow from."""

from __future__ import annotations

import math

import torch
from pytorch_optimizer import SOAP
from torch import nn

MATRIX_LEARNING_RATE = 1e-3
VECTOR_LEARNING_RATE = 2e-3
# The hyper-latent's features are sums of hundreds of symbols, and diverge at the full rate.
FEATURES_FACTOR = 0.1
# The linear path from patch to latent to patch: SOAP's steps have the same size for
# every weight, and here a jitter of 1e-3 per weight costs so much that it puts a
# ceiling of about 35 dB on the reconstruction.
LINEAR_PATH = ("analysis.embed", "analysis.project", "synthesis.content", "synthesis.render")
LINEAR_PATH_FACTOR = 0.2
# Above this, a dimension is left unpreconditioned: the wide side of the MLPs
# would cost four times the narrow one and gains little (the one-sided variant of
# Vyas et al. 2024, "SOAP").
MAX_PRECONDITIONER_DIM = 400
PRECONDITION_EVERY_STEPS = 20
WARM_UP_STEPS = 200
FINAL_FACTOR = 0.02


class Optimizers:
    """Both optimisers, stepped together under one learning-rate factor."""

    def __init__(self, model: nn.Module, learning_rate_factor: float = 1.0) -> None:
        matrices: list[nn.Parameter] = []
        linear_path: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        features: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            shared = any(part in name for part in ("gain.", "hyper_prior.", "scales."))
            # SOAP would merge a matrix this small into a vector, and fail on it
            if "scales.features" in name:
                features.append(parameter)
            elif shared or parameter.ndim == 1 or parameter.numel() <= MAX_PRECONDITIONER_DIM:
                vectors.append(parameter)
            elif any(part in name for part in LINEAR_PATH):
                linear_path.append(parameter)
            else:
                matrices.append(parameter)
        self.parameters = matrices + linear_path + vectors + features
        matrix_rate = MATRIX_LEARNING_RATE * learning_rate_factor
        vector_rate = VECTOR_LEARNING_RATE * learning_rate_factor
        slower = [{"params": features, "lr": vector_rate * FEATURES_FACTOR}] if features else []
        self._optimizers: list[torch.optim.Optimizer] = [
            SOAP(
                [
                    {"params": matrices, "lr": matrix_rate},
                    {"params": linear_path, "lr": matrix_rate * LINEAR_PATH_FACTOR},
                ],
                lr=matrix_rate,
                betas=(0.95, 0.95),
                weight_decay=0.0,
                precondition_frequency=PRECONDITION_EVERY_STEPS,
                max_precondition_dim=MAX_PRECONDITIONER_DIM,
                merge_dims=True,
            ),
            torch.optim.Adam(
                [{"params": vectors, "lr": vector_rate}, *slower],
                lr=vector_rate,
                betas=(0.9, 0.99),
            ),
        ]
        self._base = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

    def step(self, learning_rate_factor: float) -> None:
        for optimizer, base in zip(self._optimizers, self._base, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * learning_rate_factor
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, object]]:
        return [o.state_dict() for o in self._optimizers]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def learning_rate_factor(step: int, progress: float, decay_start: float) -> float:
    """Linear warm-up, constant, then a cosine to 2% over the rest of the run.

    ``progress`` is the share of the run's steps or minutes that has passed.
    """
    factor = min(1.0, (step + 1) / WARM_UP_STEPS)
    if progress > decay_start:
        phase = min(1.0, (progress - decay_start) / (1 - decay_start))
        factor *= FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * phase))
    return factor
