"""Fewer channels inside of a trained analysis transform's blocks, without training.

Most hidden channels of a block do nearly what others do together. The one whose part the
others can take over with the least error is left out, over and over: Optimal Brain Surgeon
(Hassibi and Stork 1993, "Second order derivatives for network pruning", section 3) for the least
squares of one layer, as in Optimal Brain Compression (Frantar and Alistarh 2022, section 4).

Decoders do not run the analysis transform: files stay what they are.

    python -m caezip.training.pruning 13 photographs/* --name caezip-17 -o weights
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn

from caezip.config import PRUNED_HIDDEN_CHANNELS, PRUNED_MIXED_CHANNELS
from caezip.image_io import as_rgb, read_rgb
from caezip.pretrained import ROW_STEP, load_model, network_array
from caezip.training.export import in_int8, write_weights

Matrix = NDArray[np.float64]
RIDGE = 1e-6  # of the mean square, which keeps the inverse from exploding
CROP_SIDE = 256
BRANCHES = {"mix_out": ("mix_in", "depthwise"), "reduce": ("expand",)}  # behind which layers


def least_needed_left_out(
    weights: Matrix, moments: Matrix, kept: int
) -> tuple[NDArray[np.intp], Matrix]:
    """Which ``kept`` inputs stay, and the layer that makes the most of them, ``[O, kept + 1]``.

    ``weights`` ``[O, I + 1]``, the bias last, which stays; ``moments`` are the mean products of
    its inputs, of which the last is 1.
    """
    weights, count = weights.copy(), len(moments)
    ridge = RIDGE * np.trace(moments) / count
    inverse = np.linalg.inv(moments + ridge * np.eye(count))
    here = np.arange(count)
    for _ in range(count - 1 - kept):
        costs = np.square(weights).sum(axis=0) / inverse.diagonal()
        out = int(costs[:-1].argmin())
        row = inverse[out] / inverse[out, out]
        weights -= np.outer(weights[:, out], row)
        inverse -= np.outer(inverse[:, out], row)
        rest = np.delete(np.arange(len(here)), out)
        here, weights, inverse = here[rest], weights[:, rest], inverse[np.ix_(rest, rest)]
    return here[:-1], weights


@torch.no_grad()
def input_moments(analysis: nn.Module, images: Sequence[Tensor]) -> dict[str, Matrix]:
    """By layer, the `least_needed_left_out` of each block's branches, at rates drawn for it.

    ``images`` ``[B, 3, H, W]`` in [0, 1].
    """
    moments: dict[str, Matrix] = {}

    def note(name: str, inputs: Tensor) -> None:
        seen = inputs.permute(0, 2, 3, 1).flatten(0, 2).double()
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        products: Matrix = (seen.T @ seen).numpy()
        moments[name] = moments[name] + products if name in moments else products

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, layer in analysis.named_modules()
        if name.rpartition(".")[2] in BRANCHES
    ]
    generator = torch.Generator().manual_seed(0)
    try:
        for image in images:
            analysis(image, torch.rand(len(image), generator=generator))
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / total[-1, -1] for name, total in moments.items()}


def pruned(
    tensors: dict[str, NDArray[Any]], moments: dict[str, Matrix], mixed: int, hidden: int
) -> dict[str, NDArray[Any]]:
    """What a weights file holds, with so many channels inside of the analysis's blocks."""
    tensors = dict(tensors)
    for layer, its_moments in moments.items():
        block, _, branch = f"analysis.{layer}".rpartition(".")
        name, kept = f"{block}.{branch}", mixed if branch == "mix_out" else hidden
        kernel = network_array(tensors, f"{name}.weight")
        whole = np.concatenate([kernel[:, :, 0, 0], tensors[f"{name}.bias"][:, None]], axis=1)
        here, weights = least_needed_left_out(whole.astype(np.float64), its_moments, kept)
        stored = in_int8(weights[:, :-1, None, None].astype(np.float32))
        tensors[f"{name}.weight"], tensors[f"{ROW_STEP}{name}.weight"] = stored
        tensors[f"{name}.bias"] = weights[:, -1].astype(np.float32)
        for before in BRANCHES[branch]:
            weight, bias = f"{block}.{before}.weight", f"{block}.{before}.bias"
            for part in (weight, ROW_STEP + weight, bias):
                tensors[part] = tensors[part][here]
    return tensors


def crops_of(photos: Sequence[Path], seed: int = 0) -> list[Tensor]:
    """A square from anywhere in each photograph that has one: ``[1, 3, 256, 256]`` in [0, 1]."""
    rng, crops = np.random.default_rng(seed), []
    for path in photos:
        pixels = as_rgb(read_rgb(path))
        if min(pixels.shape[:2]) >= CROP_SIDE:
            top, left = (rng.integers(0, side - CROP_SIDE + 1) for side in pixels.shape[:2])
            crop = np.ascontiguousarray(pixels[top : top + CROP_SIDE, left : left + CROP_SIDE])
            crops.append(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
    return crops


@click.command()
@click.argument("model_id", type=int)
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--mixed", default=PRUNED_MIXED_CHANNELS, show_default=True)
@click.option("--hidden", default=PRUNED_HIDDEN_CHANNELS, show_default=True)
@click.option("--name", required=True, help="Of the new weights.")
@click.option(
    "--new-id", type=int, default=None, help="Of the new weights; by default a private one."
)
@click.option(
    "--weights-folder", type=click.Path(path_type=Path), default=None, help="Not the released ones."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False))
def main(
    model_id: int,
    photos: tuple[Path, ...],
    mixed: int,
    hidden: int,
    name: str,
    new_id: int | None,
    weights_folder: Path | None,
    output: Path,
) -> None:
    """Write the weights of MODEL_ID with fewer channels, as PHOTOS need them, to a folder."""
    model = load_model(model_id, weights_folder)
    sizes = replace(model.sizes, analysis_mixed_channels=mixed, analysis_hidden_channels=hidden)
    moments = input_moments(model.build_network().analysis, crops_of(photos))
    tensors = pruned(load_file(str(model.entry.file)), moments, mixed, hidden)
    tensors["config"] = np.frombuffer(json.dumps(asdict(sizes)).encode(), np.uint8)
    output.mkdir(parents=True, exist_ok=True)
    said = f"{model.entry.details.get('command', '')}; then caezip.training.pruning of "
    said += f"{model.entry.name} to {mixed} and {hidden} channels, by {len(photos)} photographs"
    details = {**model.entry.details, "command": said.removeprefix("; then ")}
    write_weights(
        tensors,
        output,
        name=name,
        details=details,
        tune=model.entry.tune,
        model_id=new_id,
        force=False,
    )


if __name__ == "__main__":
    main()
