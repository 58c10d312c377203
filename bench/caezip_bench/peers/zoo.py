"""Learned codecs of CompressAI's model zoo, where their weights have been downloaded.

J. Bégaint et al., "CompressAI: a PyTorch library and evaluation platform for end-to-end
compression research", 2020. The weights tuned for MSE, in float32 on the CPU.
"""

from __future__ import annotations

import importlib
import os
import re
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caezip.errors import MissingDependencyError
from caezip.image_io import Pixels
from caezip_bench.peers.base import Peer, required_quality

if TYPE_CHECKING:
    from compressai.models import CompressionModel

ZOO_PREFIX = "zoo-"
WEIGHTS_VARIABLE = "CAEZIP_ZOO_WEIGHTS"
# how the zoo's files begin; a quality and a digest follow
FILE_STEMS = {
    "bmshj2018-factorized": "bmshj2018-factorized-prior",
    "bmshj2018-hyperprior": "bmshj2018-hyperprior",
    "mbt2018-mean": "mbt2018-mean",
    "cheng2020-anchor": "cheng2020-anchor",
}
PADDED_TO = 64  # pixels: the networks halve a picture up to six times
_HEADER = struct.Struct("<HHBI")  # width, height, quality, bytes of the first string


class ZooPeer(Peer):
    """One architecture of the zoo; its qualities are those whose weights are here.

    Weights are looked for in the folder that CAEZIP_ZOO_WEIGHTS names, otherwise where
    torch.hub keeps what it downloads, and are never downloaded. A file is a header of 9
    bytes, from which the decoder knows the shapes, and the network's one or two strings.
    Raises MissingDependencyError without weights or where CompressAI cannot be imported.
    """

    suffix = ".zoo"

    def __init__(self, architecture: str):
        self.name = ZOO_PREFIX + architecture
        self._architecture = architecture
        folder, stem = weights_folder(), FILE_STEMS[architecture]
        self._weights = _find_weights(folder, stem)
        if not self._weights:
            raise MissingDependencyError(
                f"{self.name}: no weights {stem}-QUALITY-*.pth.tar in {folder}: "
                f"compressai.zoo.image_models[{architecture!r}](QUALITY, pretrained=True) "
                f"downloads them, or set {WEIGHTS_VARIABLE} to the folder that has them"
            )
        try:
            _zoo_classes()
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.name}: CompressAI cannot be imported: {error}"
            ) from error
        self.qualities = tuple(float(quality) for quality in self._weights)
        files = ", ".join(path.name for path in self._weights.values())
        self.settings = f"CompressAI, float32, tuned for MSE, weights {files}"

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        import torch

        number = round(required_quality(quality))
        height, width = pixels.shape[:2]
        margins = ((0, -height % PADDED_TO), (0, -width % PADDED_TO), (0, 0))
        padded = np.pad(pixels, margins, mode="edge").astype(np.float32) / 255
        with torch.inference_mode():
            coded = self._network(number).compress(torch.from_numpy(padded).permute(2, 0, 1)[None])
        strings: list[bytes] = [batch[0] for batch in coded["strings"]]
        return _HEADER.pack(width, height, number, len(strings[0])) + b"".join(strings)

    def decode(self, data: bytes) -> Pixels:
        import torch

        width, height, number, size = _HEADER.unpack_from(data)
        strings = data[_HEADER.size :]
        parts = [[part] for part in (strings[:size], strings[size:]) if part]
        network = self._network(number)
        step: int = network.downsampling_factor
        shape = [(side + -side % PADDED_TO) // step for side in (height, width)]
        with torch.inference_mode():
            picture = network.decompress(parts, shape)["x_hat"][0, :, :height, :width]
        decoded: Pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return decoded

    def _network(self, quality: int) -> CompressionModel:
        return _network(self._architecture, self._weights[quality])


def weights_folder() -> Path:
    """Where the zoo's weights are looked for; it need not exist."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        return Path(named)
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"


def _find_weights(folder: Path, stem: str) -> dict[int, Path]:
    """Files by quality, in ascending order."""
    found = {}
    for path in sorted(folder.glob(f"{stem}-*.pth.tar")):
        match = re.fullmatch(rf"{stem}-(\d)-[0-9a-f]+\.pth\.tar", path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def _zoo_classes() -> dict[str, Any]:
    # makes the rest of compressai importable beside a torch without CUDA
    importlib.import_module("caezip.training._compressai")
    image = importlib.import_module("compressai.zoo.image")
    classes: dict[str, Any] = image.model_architectures
    return classes


@cache
def _network(architecture: str, path: Path) -> CompressionModel:
    """Ready to code; every quality that was used stays in memory."""
    import torch

    tensors = torch.load(path, map_location="cpu", weights_only=True)
    network = _zoo_classes()[architecture].from_state_dict(
        importlib.import_module("compressai.zoo").load_state_dict(tensors)
    )
    network.update()  # only what the weights leave open
    return network.eval()
