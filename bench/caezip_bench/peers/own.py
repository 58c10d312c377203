"""caezip itself among the codecs that are compared."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from caezip.config import DEFAULT_TUNE
from caezip.engines import engine_for
from caezip.errors import UnknownModelError
from caezip.image_io import Pixels
from caezip_bench.peers.base import Peer, PeerOptions, required_quality

if TYPE_CHECKING:
    from caezip import Codec


class CaezipPeer(Peer):
    """caezip itself, as its Python interface codes; ``effort`` None is the default one.

    Raises UnknownModelError if there are no weights with this ``tune``.
    """

    suffix = ".cae"
    is_made_of_caezip = True

    def __init__(
        self,
        name: str,
        options: PeerOptions,
        *,
        effort: int | None = None,
        tune: str = DEFAULT_TUNE,
    ):
        self.name = name
        self.qualities = tuple(sorted(set(options.caezip_qualities)))
        self._options = options
        from caezip.tile_coder import DEFAULT_EFFORT, weights_for

        effort = DEFAULT_EFFORT if effort is None else effort
        try:
            entry = weights_for(effort, tune, options.weights_folder)
        except UnknownModelError as error:
            raise UnknownModelError(f"{name}: {error}") from None
        self._effort = effort
        self._tune = tune
        self.settings = (
            f"model {entry.model_id} ({entry.name}), engine {engine_for('auto', 'cpu')}, "
            f"effort {effort}, tuned for {entry.tune.upper()}"
        )

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        return self._loaded().encode(
            pixels, quality=required_quality(quality), effort=self._effort, tune=self._tune
        )

    def decode(self, data: bytes) -> Pixels:
        return self._loaded().decode(data)

    def _loaded(self) -> Codec:
        return _codec(self._options.threads, self._options.weights_folder)


@cache
def _codec(threads: int | None, weights_folder: Path | None) -> Codec:
    """One for all efforts, so that each network is in memory once."""
    from caezip import Codec

    return Codec(threads=threads, weights_folder=weights_folder)
