"""Where training starts: a block transform codec with matching steps and scales.

The Karhunen-Loève transform of 16x16 colour patches is the best linear transform
there is; the networks start as it and only have to find what a linear transform
cannot do. A first run came down in about 200 steps to the loss that a random start
(of another network, at another rate range) had after 400. The choice of basis
matters for good: directions that it leaves out are hardly ever learned later
(a DCT ordered by a guess at the chroma's share held a model at 35 dB).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from caezip.blocks import ColouredPlanes
from caezip.config import PATCH_SAMPLES, PATCH_SIZE, RENDER_STRIDE, SCALE_MIN, lambda_of_rate
from caezip.transforms import CodecNetwork

CORRELATION = 0.95  # of neighbouring pixels
CHANNEL_VARIANCE = 0.065  # of images in [0, 1]
CHANNEL_CORRELATION = ((1.0, 0.94, 0.87), (0.94, 1.0, 0.94), (0.87, 0.94, 1.0))
SMALLEST_GAIN = 0.05


def modelled_patch_covariance() -> Tensor:
    """Covariance ``[768, 768]`` of patches in a separable AR(1) model of photographs.

    Jain 1989, "Fundamentals of Digital Image Processing". Order of samples as in
    `pixel_unshuffle`: channel, row, column.
    """
    n = torch.arange(PATCH_SIZE, dtype=torch.float64)
    line = CORRELATION ** (n[:, None] - n[None, :]).abs()
    colour = CHANNEL_VARIANCE * torch.tensor(CHANNEL_CORRELATION, dtype=torch.float64)
    return torch.kron(colour, torch.kron(line, line))


def patch_covariance(images: Tensor) -> Tensor:
    """Covariance ``[768, 768]`` of the patches of ``images`` [B, 3, H, W] in [0, 1].

    Shrunk towards the model, the more so the fewer patches there are, so that it
    always has full rank.
    """
    patches = nn.functional.pixel_unshuffle(images - 0.5, PATCH_SIZE)
    samples = patches.permute(0, 2, 3, 1).reshape(-1, PATCH_SAMPLES).double()
    samples = samples - samples.mean(dim=0)
    weight = len(samples) / (len(samples) + PATCH_SAMPLES)
    measured = samples.T @ samples / len(samples)
    return weight * measured + (1 - weight) * modelled_patch_covariance()


def karhunen_loeve_basis(covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` strongest orthonormal rows ``[count, 768]`` and their deviations."""
    variances, vectors = torch.linalg.eigh(covariance)
    basis = vectors.flip(1).T[:count]
    # eigenvectors come with either sign: fix it, so that runs can be repeated
    sign = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
    deviation = variances.flip(0)[:count].clamp(min=1e-12).sqrt()
    return (basis * sign).float(), deviation.float()


def coloured_basis(covariance: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `karhunen_loeve_basis`, of vectors of one colour: planes ``[count, 256]``, deviations.

    Also the colours ``[3, 3]``, principal axes of all pixels', and which of them ``[count]`` each
    plane has.
    """
    blocks = covariance.view(3, PATCH_SIZE**2, 3, PATCH_SIZE**2)
    colours = torch.linalg.eigh(blocks.diagonal(dim1=1, dim2=3).sum(dim=-1))[1].flip(1).T
    of_colours = [
        karhunen_loeve_basis(torch.einsum("apbq,a,b->pq", blocks, colour, colour), PATCH_SIZE**2)
        for colour in colours
    ]
    planes, deviation = (torch.cat(parts) for parts in zip(*of_colours, strict=True))
    strongest = deviation.argsort(descending=True, stable=True)[:count]
    kinds = strongest // PATCH_SIZE**2
    return planes[strongest], deviation[strongest], colours.float(), kinds


@torch.no_grad()
def initialise_as_block_transform(network: CodecNetwork, covariance: Tensor | None = None) -> None:
    """Make ``network`` a codec of the patches' Karhunen-Loève transform.

    ``covariance`` is that of the training patches (default: the model's). The
    latent before its gain has unit variance in every channel. High-resolution
    theory gives the step at each lambda: d(lambda * 255^2 * MSE)/dD = -dR/dD
    with D = step^2 / 12 (Gray and Neuhoff 1998, "Quantization").
    """
    config = network.config
    count = min(config.analysis_channels, config.latent_channels, PATCH_SAMPLES)
    if covariance is None:
        covariance = modelled_patch_covariance()
    analysis, synthesis = network.analysis, network.synthesis
    if isinstance(synthesis.content, ColouredPlanes):
        planes, deviation, colours, kinds = coloured_basis(covariance, count)
        basis = (colours[kinds][:, :, None] * planes[:, None]).flatten(1)
        _set_planes(synthesis.content, planes * deviation[:, None], colours, kinds)
    else:
        basis, deviation = karhunen_loeve_basis(covariance, count)
        synthesis.content.weight.zero_()
        _set(synthesis.content, _in_shuffled_order(basis * deviation[:, None], 3))

    _set(analysis.embed, basis / deviation[:, None])
    analysis.project.weight.zero_()
    _set(analysis.project, torch.eye(count))
    if synthesis.embed is not None:
        _set(synthesis.embed, torch.eye(min(count, config.synthesis_channels)))
    linear: list[nn.Module] = [analysis.embed, analysis.project, synthesis.content]
    if synthesis.render is not None:
        synthesis.render.weight.zero_()
        synthesis.render.weight[:, :, 1, 1] = torch.eye(3 * RENDER_STRIDE**2)
        linear.append(synthesis.render)
    for layer in linear:
        layer.get_parameter("bias").zero_()

    rates = torch.linspace(0, 1, config.anchor_rates)
    step = torch.sqrt(12 * 3 / (2 * math.log(2) * 255**2 * lambda_of_rate(rates)))  # [anchors]
    gain = (deviation[None, :] / step[:, None]).clamp(min=SMALLEST_GAIN)  # [anchors, count]
    network.latent_gain.table[:, :count] = gain.log()
    network.latent_inverse_gain.table[:, :count] = -gain.log()
    network.scales.bias.table[:, :count] = (gain / SCALE_MIN).log()


def _in_shuffled_order(rows: Tensor, planes: int) -> Tensor:
    """``[count, planes * 256]`` of pixels as columns in the renderer's layout.

    That is pixel_shuffle(4) of 768 channels, then pixel_shuffle(4) of 48.
    """
    cells = rows.reshape(len(rows), planes, 4, 4, 4, 4)  # plane, y1, y0, x1, x0
    return cells.permute(1, 3, 5, 2, 4, 0).reshape(-1, len(rows))


def _set_planes(layer: ColouredPlanes, planes: Tensor, colours: Tensor, kinds: Tensor) -> None:
    """``planes`` [count, 256], and which of the ``colours`` each has; 0 for all others."""
    pixels, channels = len(layer.planes), len(layer.colour_of)
    first = torch.zeros(channels, dtype=torch.long)
    first[: len(kinds)] = kinds
    number = torch.arange(layer.planes.shape[1])  # planes beyond the first of each channel are 0
    channel, more = number % channels, number // channels
    layer.colour_of.zero_()
    layer.colour_of[channel, (first[channel] + more) % 3] = 1
    of_colours = torch.zeros(channels, 3, pixels)
    of_colours[torch.arange(len(kinds)), kinds] = _in_shuffled_order(planes, 1).T
    layer.planes.copy_(of_colours[layer.colour_of > 0].T[:, :, None, None])
    layer.colours.copy_(colours)


def _set(convolution: nn.Conv2d, matrix: Tensor) -> None:
    """Fill the top left of a 1x1 convolution's weights."""
    convolution.weight[: matrix.shape[0], : matrix.shape[1], 0, 0] = matrix
