"""The model card's facts: what each model of a manifest is, costs and was trained on.

``python -m caezip_bench.card weights/README.md`` puts them between the markers
``<!-- models: FOLDER -->`` and ``<!-- end models -->``, with FOLDER relative to the document.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from caezip.errors import ParameterError
from caezip.image_io import write_atomically
from caezip.pretrained import ROW_STEP, ManifestEntry, list_models, load_model
from caezip_bench.entry import run_as_module

_MARKED = re.compile(r"(<!-- models: (\S+) -->\n).*?(<!-- end models -->)", re.DOTALL)
TUNED_FOR = {
    "psnr": "PSNR (squared error)",
    "archive": "PSNR (squared error), with a decoder that costs more",
    "ssim": "MS-SSIM",
    "fastdecode": "PSNR (squared error), with a decoder that costs less",
}
SIDE = 512  # pixels; costs per pixel do not depend on it


def multiply_accumulates(config: dict[str, int]) -> dict[str, float]:
    """Multiply-accumulates per pixel, in thousands, of encoding and of decoding.

    Every convolution that runs is counted, the entropy model's included; encoding
    runs the entropy model too, but not the synthesis transform. A lean decoder's planes
    are all counted, as if no symbol were 0.
    """
    import torch
    from torch import Tensor, nn

    from caezip.blocks import ColouredPlanes
    from caezip.config import PATCH_SAMPLES, PATCH_SIZE, ModelConfig
    from caezip.scales import HYPER_STRIDE
    from caezip.transforms import CodecNetwork

    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counted[0] += output.numel() * module.weight[0].numel()
        elif isinstance(module, ColouredPlanes):
            counted[0] += module.planes.numel() * output[0, 0].numel()

    with torch.device("meta"):
        network = CodecNetwork(ModelConfig(**config))
        for module in network.modules():
            module.register_forward_hook(count)
        content = network.synthesis.content
        if isinstance(content, ColouredPlanes):  # which planes it has is not known on "meta"
            cells = (PATCH_SAMPLES, SIDE // PATCH_SIZE, SIDE // PATCH_SIZE)
            vars(content)["forward"] = lambda latent: latent.new_empty(len(latent), *cells)
        image, rate = torch.empty(1, 3, SIDE, SIDE), torch.empty(1)
        grid = SIDE // PATCH_SIZE
        hyper_grid = grid // HYPER_STRIDE

        def spent() -> float:
            macs, counted[0] = counted[0], 0
            return macs / SIDE**2 / 1000

        latent = network.analysis(image, rate)
        network.hyper_analysis(latent, rate)
        analysis = spent()
        hyper = torch.empty(1, network.config.hyper_latent_channels, hyper_grid, hyper_grid)
        features = network.hyper_synthesis(hyper, rate, (grid, grid))
        network.context.first_mean(features)
        network.context.second_mean(features, latent)
        network.scales(hyper, rate, (grid, grid))
        # the mask reaches every cell, so the mixing layer's cost does not depend on it
        network.scales.across(latent)
        entropy_model = spent()
        network.synthesis(latent, rate)
        synthesis = spent()
    return {"encode": analysis + entropy_model, "decode": entropy_model + synthesis}


def describe(entry: ManifestEntry, folder: Path) -> str:
    """One model's facts as a Markdown list, from its manifest entry and its file."""
    model = load_model(entry.model_id, folder)
    costs = multiply_accumulates(model.config)
    parameters = sum(
        array.size for name, array in model.network_weights.items() if not name.startswith(ROW_STEP)
    )
    details = entry.details
    size_mb = Path(str(entry.file)).stat().st_size / 1e6
    rows = [
        ("tuned for", TUNED_FOR[entry.tune]),
        ("size", f"{parameters / 1e6:.1f} million parameters, {size_mb:.1f} MB"),
        (
            "cost",
            f"{costs['encode']:.1f} kMAC per pixel to encode, {costs['decode']:.1f} to decode",
        ),
        ("trained", f"{details.get('steps', '?')} steps, {details.get('hours', '?')} hours"),
        ("on", details.get("hardware", "?")),
        ("with", f"torch {details.get('torch', '?')}, {details.get('data', '?')}"),
        ("command", f"`{details.get('command', '?')}`"),
        ("sha256", f"`{entry.sha256}`"),
    ]
    lines = [f"### Model {entry.model_id}, `{entry.name}`", ""]
    lines += [f"- {name}: {value}" for name, value in rows]
    if "held_back" in details:
        lines += ["", "| rate | bpp | PSNR, dB | MS-SSIM |", "|-----:|----:|---------:|--------:|"]
        lines += [
            f"| {row['rate']:g} | {row['bpp']:.3f} | {row['psnr_db']:.2f} "
            f"| {row.get('ms_ssim', float('nan')):.4f} |"
            for row in details["held_back"]
        ]
    return "\n".join(lines)


def with_models(text: str, folder: Path) -> str:
    """``text`` with every marked block made anew. Raises ParameterError if there is none."""

    def block(match: re.Match[str]) -> str:
        models = folder / match[2]
        parts = [describe(entry, models) for entry in list_models(models).values()]
        return f"{match[1]}\n" + "\n\n".join(parts) + f"\n\n{match[3]}"

    replaced, count = _MARKED.subn(block, text)
    if not count:
        raise ParameterError("models: found no <!-- models: FOLDER --> marker")
    return replaced


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(document: Path) -> None:
    """Refresh the models' facts in DOCUMENT."""
    text = with_models(document.read_text(encoding="utf-8"), document.parent)
    write_atomically(document, text.encode(), force=True)


if __name__ == "__main__":
    run_as_module(main)
