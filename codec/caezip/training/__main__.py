"""``python -m caezip.training`` is ``caezip train``: a module is what torchrun can start."""

from __future__ import annotations

import sys

from caezip.cli import main

main(["train", *sys.argv[1:]], prog_name="caezip")
