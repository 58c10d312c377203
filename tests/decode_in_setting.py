"""Decodes one file in a process of its own, whose arithmetic the caller chose.

Usage: ``python decode_in_setting.py IN.cae OUT THREADS PRECISION on|off DEVICE ENGINE``; on or
off says whether torch uses oneDNN.
Writes OUT.npy (pixels) and OUT.json (digests, and what really was in force).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from caezip import Codec
from images import photo_like


def digest_of(codec: Codec, data: bytes) -> str:
    """sha256 of all integers of all tiles."""
    digest = hashlib.sha256()
    for latents in codec.decode_latents(data):
        digest.update(latents.hyper_latent.tobytes() + latents.residual.tobytes())
    return digest.hexdigest()


def main() -> None:
    source, out, threads, precision, onednn, device, engine = sys.argv[1:]
    if onednn == "off":
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]  # torch's own
    codec = Codec(threads=int(threads), precision=precision, device=device, engine=engine)
    data = Path(source).read_bytes()
    np.save(f"{out}.npy", codec.decode(data))
    # and back again: what this setting encodes must be read alike by the others
    encoded = codec.encode(photo_like(48, 60), quality=60)
    Path(f"{out}.cae").write_bytes(encoded)
    report = {
        "latents": digest_of(codec, data),
        "own_latents": digest_of(codec, encoded),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": bool(torch.backends.mkldnn.enabled),
    }
    Path(f"{out}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
