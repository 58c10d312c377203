"""Sizes and constants that every implementation of the networks shares. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from caezip.errors import ParameterError
from caezip.integers import QUALITY_LOW, QUALITY_SPAN
from caezip.scales import SCALE_COUNT

TUNES = ("psnr", "archive", "ssim", "fastdecode")  # what weights are for
DEFAULT_TUNE = "psnr"
PATCH_SIZE = 16  # pixels per latent cell and side
PATCH_SAMPLES = 3 * PATCH_SIZE**2  # 768
RENDER_STRIDE = 4  # the renderer works at a quarter of the image's resolution
# The ends of the table of scales, log-spaced between. What has the smallest is not coded: it
# rounds to 0 in all but 1.2% of cases. With a smallest one of 0.11 (Ballé et al. 2018) nothing
# got smaller, and coding took longer.
SCALE_MIN, SCALE_MAX = 0.2, 465.0
INDEX_PER_NAT = (SCALE_COUNT - 1) / math.log(SCALE_MAX / SCALE_MIN)
LEVELS = 256  # in which layers see their inputs: they can run in int8
LAMBDA_MIN, LAMBDA_MAX = 0.0003, 0.3  # weights of 255^2 * MSE in the training loss

Rate = TypeVar("Rate")  # a float, or a tensor of several


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network. The defaults are those of the weights for "ssim".

    Raises ParameterError for sizes that do not fit each other.
    """

    analysis_channels: int = 320  # width of the encoder's residual stream
    analysis_blocks: int = 4
    latent_channels: int = 320  # 768 samples of a patch become this many coefficients
    hyper_latent_channels: int = 96  # z, at 1/64 of the image
    hyper_channels: int = 192
    context_channels: int = 256  # width of the second checkerboard pass
    synthesis_channels: int = 320
    synthesis_blocks: int = 3
    renderer_blocks: int = 2  # with none the decoder is lean: faster, and worse
    anchor_rates: int = 8  # rates at which gains are stored; others are interpolated
    mean_channels: int = 0  # of the latent, the first ones, that means are predicted for; 0: all
    lean_synthesis: int = 0  # 1: the synthesis transform's blocks are lean; without renderer always
    hyper_analysis_channels: int = 0  # width of what only encoders run for z; 0: hyper_channels
    coloured_planes: int = 0  # of a lean decoder's last layer; 0: one for each latent channel
    analysis_mixed_channels: int = 0  # inside of analysis blocks' mixing; 0: analysis_channels
    analysis_hidden_channels: int = 0  # inside of their MLPs; 0: twice as many
    synthesis_hidden_channels: int = 0  # inside of synthesis blocks' MLPs; 0: twice their width
    hyper_feature_channels: int = 0  # that scales see beside the hyper-latent, of the cells around

    def __post_init__(self) -> None:
        latent = self.latent_channels
        if self.lean_decoder and self.synthesis_channels >= latent:
            raise ParameterError(
                f"synthesis_channels: found {self.synthesis_channels}, allowed without renderer "
                f"blocks are fewer than latent_channels, {latent}"
            )
        if self.lean_decoder and not latent <= self.plane_count <= 3 * latent:
            raise ParameterError(
                f"coloured_planes: found {self.coloured_planes}, allowed are one to three for each "
                f"of latent_channels, {latent}"
            )
        if self.mean_channels > latent:
            raise ParameterError(
                f"mean_channels: found {self.mean_channels}, allowed are up to latent_channels, "
                f"{latent}"
            )

    @property
    def lean_decoder(self) -> bool:
        """Whether what a decoder runs has `caezip.blocks.LeanBlock`, and no renderer.

        The synthesis transform's stream then is the first channels of the latent itself, and its
        last layer is `caezip.blocks.ColouredPlanes`.
        """
        return not self.renderer_blocks

    @property
    def has_lean_synthesis(self) -> bool:
        """Whether the synthesis transform has `caezip.blocks.LeanBlock`."""
        return bool(self.lean_synthesis) or self.lean_decoder

    @property
    def plane_count(self) -> int:
        """Planes of a lean decoder's last layer: `caezip.blocks.ColouredPlanes`."""
        return self.coloured_planes or self.latent_channels

    @property
    def predicted_channels(self) -> int:
        """Channels of the latent, the first ones, whose means are predicted; others have 0."""
        return self.mean_channels or self.latent_channels

    @property
    def hyper_analysis_width(self) -> int:
        """Channels of the hyper-analysis, which no decoder has to wait for."""
        return self.hyper_analysis_channels or self.hyper_channels

    @property
    def analysis_widths(self) -> tuple[int, int]:
        """Channels inside of the analysis transform's blocks: of spatial mixing, and of MLPs."""
        width = self.analysis_channels
        return self.analysis_mixed_channels or width, self.analysis_hidden_channels or 2 * width

    @property
    def synthesis_hidden_width(self) -> int:
        """Channels inside of the MLPs of the synthesis transform's blocks."""
        return self.synthesis_hidden_channels or 2 * self.synthesis_channels

    @property
    def analysis_halo(self) -> int:
        """Cells around a cell that its latent depends on: one for each block's 3x3."""
        return self.analysis_blocks

    @property
    def synthesis_halo(self) -> int:
        """Cells around a cell that its pixels depend on; the renderer's 3x3 sees one more."""
        return self.synthesis_blocks + (self.renderer_blocks > 0)


# What is left of the analysis transform's blocks by `caezip.training.pruning`.
PRUNED_MIXED_CHANNELS, PRUNED_HIDDEN_CHANNELS = 224, 192

# Sizes of the weights for "archive": what predicts means, which encoders have to wait for too, is
# smaller than by default, and so are the decoder's blocks.
ARCHIVE = ModelConfig(
    analysis_mixed_channels=PRUNED_MIXED_CHANNELS,
    analysis_hidden_channels=PRUNED_HIDDEN_CHANNELS,
    hyper_channels=160,
    context_channels=192,
    mean_channels=192,
    lean_synthesis=1,
)

# Sizes of the weights for "fastdecode": the transforms that only encoders run have those of the
# others, as no decoder has to wait for them; what a decoder runs costs an eighth. Means of further
# channels than the first 96 would save half a percent, wider networks for means one; 160 channels
# whose blocks improve them two and a half, for twice the time in the synthesis transform.
FAST_DECODING = ModelConfig(
    analysis_mixed_channels=PRUNED_MIXED_CHANNELS,
    analysis_hidden_channels=PRUNED_HIDDEN_CHANNELS,
    hyper_latent_channels=48,
    hyper_channels=80,
    context_channels=80,
    synthesis_channels=96,
    renderer_blocks=0,
    mean_channels=96,
    hyper_analysis_channels=128,
    coloured_planes=348,
)

# Sizes of the weights for "psnr", the default: as wide a lean decoder as one of JPEG 2000's speed
# can be.
PSNR = replace(
    FAST_DECODING,
    hyper_channels=128,
    context_channels=128,
    synthesis_channels=256,
    synthesis_blocks=4,
    synthesis_hidden_channels=256,
    mean_channels=192,
    hyper_feature_channels=64,
)


def sizes_of_tune(tune: str) -> ModelConfig:
    """Sizes of the released weights for ``tune``."""
    sizes = {"psnr": PSNR, "archive": ARCHIVE, "ssim": ModelConfig(), "fastdecode": FAST_DECODING}
    return sizes[tune]


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter of the networks (`caezip.transforms.CodecNetwork`) but the scales'."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, inputs: int, outputs: int, side: int = 1) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, side, side)
        shapes[f"{name}.bias"] = (outputs,)

    def block(name: str, channels: int, mixed: int, hidden: int, *, lean: bool = False) -> None:
        if not lean:
            layer(f"{name}.mix_in", channels, mixed)
        layer(f"{name}.depthwise", 1, mixed, 3)
        if not lean:
            layer(f"{name}.mix_out", mixed, channels)
        layer(f"{name}.expand", channels, hidden)
        layer(f"{name}.reduce", hidden, channels)

    def gain(name: str, channels: int) -> None:
        shapes[f"{name}.table"] = (config.anchor_rates, channels)

    latent, hyper_latent = config.latent_channels, config.hyper_latent_channels
    width = config.analysis_channels
    layer("analysis.embed", PATCH_SAMPLES, width)
    gain("analysis.gain", width)
    for number in range(config.analysis_blocks):
        block(f"analysis.blocks.{number}", width, *config.analysis_widths)
    layer("analysis.project", width, latent)

    width = config.synthesis_channels
    samples = 3 * RENDER_STRIDE**2
    gain("synthesis.gain", width)
    for number in range(config.synthesis_blocks):
        name, hidden = f"synthesis.blocks.{number}", config.synthesis_hidden_width
        block(name, width, width, hidden, lean=config.has_lean_synthesis)
    if config.lean_decoder:
        shapes["synthesis.content.planes"] = (PATCH_SIZE**2, config.plane_count, 1, 1)
        shapes["synthesis.content.colours"] = (3, 3)
        shapes["synthesis.content.colour_of"] = (latent, 3)
        shapes["synthesis.content.bias"] = (PATCH_SAMPLES,)
    else:
        layer("synthesis.content", latent, PATCH_SAMPLES)
        layer("synthesis.embed", latent, width)
        layer("synthesis.detail", width, PATCH_SAMPLES)
    for number in range(config.renderer_blocks):
        layer(f"synthesis.modulations.{number}", width, 3 * samples)
        layer(f"synthesis.expand.{number}", samples, 2 * samples)
        layer(f"synthesis.reduce.{number}", 2 * samples, samples)
    if config.renderer_blocks:
        layer("synthesis.render", samples, samples, 3)

    width = config.hyper_analysis_width
    layer("hyper_analysis.layers.0", latent, width)
    block("hyper_analysis.layers.1", width, width, 2 * width)
    layer("hyper_analysis.layers.2", width, width, 2)
    block("hyper_analysis.layers.3", width, width, 2 * width)
    layer("hyper_analysis.layers.4", width, hyper_latent, 2)
    gain("hyper_analysis.gain", hyper_latent)

    width = config.hyper_channels
    gain("hyper_synthesis.inverse_gain", hyper_latent)
    layer("hyper_synthesis.layers.0", hyper_latent, 4 * width)
    block("hyper_synthesis.layers.2", width, width, 2 * width, lean=config.lean_decoder)
    layer("hyper_synthesis.layers.3", width, 4 * width)
    block("hyper_synthesis.layers.5", width, width, 2 * width, lean=config.lean_decoder)

    predicted = config.predicted_channels
    layer("context.first", width, predicted)
    layer("context.second.0", width + predicted, config.context_channels)
    width = config.context_channels
    block("context.second.1", width, width, 2 * width, lean=config.lean_decoder)
    layer("context.second.2", config.context_channels, predicted)
    gain("latent_gain", latent)
    gain("latent_inverse_gain", latent)
    return shapes


def rate_of_quality(quality_hundredths: int) -> float:
    """Position in [0, 1] on the logarithmic lambda axis, of a quality from 100 to 10,000."""
    return (quality_hundredths - QUALITY_LOW) / QUALITY_SPAN


def lambda_of_rate(rate: Rate) -> Rate:
    """Lagrangian of a rate position, a number or a tensor: log-linear between its ends."""
    return LAMBDA_MIN * (LAMBDA_MAX / LAMBDA_MIN) ** rate  # type: ignore[operator,no-any-return]  # either kind has the operators
