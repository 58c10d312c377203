"""The codecs that are compared, by name in `PEERS`.

To add one, write a class with ``name``, ``suffix``, ``settings``, ``qualities``,
``encode`` and ``decode`` (see `caezip_bench.peers.base.Peer`), raise
MissingDependencyError in its constructor if what it needs is absent, and add a line
to `PEERS`. `caezip_bench.peers.pillow.WebpPeer` is an example of a library,
`caezip_bench.peers.programs.CwebpPeer` one of a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from caezip.errors import MissingDependencyError, ParameterError, UnknownModelError
from caezip_bench.peers.base import CAEZIP_QUALITIES, Peer, PeerError, PeerOptions
from caezip_bench.peers.klt import KltPeer
from caezip_bench.peers.own import CaezipPeer
from caezip_bench.peers.pillow import (
    AvifPeer,
    Jpeg2000Peer,
    JpegPeer,
    JxlPeer,
    PillowPeer,
    PngPeer,
    WebpPeer,
    avif_version,
)
from caezip_bench.peers.programs import (
    AvifencPeer,
    BpgPeer,
    CjxlPeer,
    CwebpPeer,
    MozjpegPeer,
    ProgramPeer,
)
from caezip_bench.peers.vtm import VtmPeer
from caezip_bench.peers.zoo import FILE_STEMS, ZOO_PREFIX, ZooPeer

MIN_CAEZIP_QUALITY = 1.0
MAX_CAEZIP_QUALITY = 100.0
EFFORTS = range(1, 10)
EFFORT_PREFIX = "caezip-e"


def _zoo_peer(architecture: str, _: PeerOptions) -> Peer:
    return ZooPeer(architecture)


PEERS: dict[str, Callable[[PeerOptions], Peer]] = {
    "caezip": partial(CaezipPeer, "caezip"),
    "caezip-archive": partial(CaezipPeer, "caezip-archive", tune="archive"),
    "caezip-ssim": partial(CaezipPeer, "caezip-ssim", tune="ssim"),
    "caezip-fast": partial(CaezipPeer, "caezip-fast", tune="fastdecode"),
    **{
        f"{EFFORT_PREFIX}{effort}": partial(CaezipPeer, f"{EFFORT_PREFIX}{effort}", effort=effort)
        for effort in EFFORTS
    },
    "jpeg420": lambda _: JpegPeer("jpeg420", "4:2:0"),
    "jpeg444": lambda _: JpegPeer("jpeg444", "4:4:4"),
    "webp": lambda _: WebpPeer(),
    "avif444": lambda o: AvifPeer("avif444", "4:4:4", 4, threads=o.threads),
    "avif420": lambda o: AvifPeer("avif420", "4:2:0", 4, threads=o.threads),
    "avif444-s8": lambda o: AvifPeer("avif444-s8", "4:4:4", 8, threads=o.threads),
    "avif420-s8": lambda o: AvifPeer("avif420-s8", "4:2:0", 8, threads=o.threads),
    "avif444-1tile": lambda _: AvifPeer("avif444-1tile", "4:4:4", 4, one_tile=True),
    "jpeg2000": lambda _: Jpeg2000Peer(),
    "jxl-e7": lambda _: JxlPeer("jxl-e7", 7),
    "jxl-e3": lambda _: JxlPeer("jxl-e3", 3),
    "klt": lambda _: KltPeer(),
    "png": lambda _: PngPeer(),
    "cjxl-e7": lambda _: CjxlPeer("cjxl-e7", 7),
    "cjxl-e3": lambda _: CjxlPeer("cjxl-e3", 3),
    "avifenc-s4": lambda o: AvifencPeer("avifenc-s4", 4, o),
    "avifenc-s8": lambda o: AvifencPeer("avifenc-s8", 8, o),
    "cwebp-m6": lambda _: CwebpPeer("cwebp-m6"),
    "mozjpeg": lambda _: MozjpegPeer("mozjpeg"),
    "bpg": lambda _: BpgPeer("bpg"),
    "vtm": lambda _: VtmPeer("vtm"),
    **{
        f"{ZOO_PREFIX}{architecture}": partial(_zoo_peer, architecture)
        for architecture in FILE_STEMS
    },
}
# the others take long, or are variants of these
DEFAULT_PEERS = (
    "caezip",
    "caezip-archive",
    "caezip-ssim",
    "caezip-fast",
    "jpeg420",
    "jpeg444",
    "webp",
    "avif444",
    "avif444-s8",
    "avif420-s8",
    "jpeg2000",
    "jxl-e7",
    "jxl-e3",
    "klt",
    "png",
    "cjxl-e7",
    "avifenc-s4",
    "cwebp-m6",
    "mozjpeg",
)


@dataclass(frozen=True)
class MissingPeer:
    """A codec that cannot be run here, and what it lacks."""

    name: str
    reason: str


def make_peers(names: Sequence[str], options: PeerOptions) -> list[Peer]:
    """The named codecs, each once, in the order given.

    Raises ParameterError for a name that `PEERS` lacks, for none at all, and for
    a caezip quality outside 1…100; UnknownModelError or MissingDependencyError,
    which name the codec, if it needs weights, a library or a program that is absent.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        found = ", ".join(unknown) or "none"
        raise ParameterError(f"peers: found {found}, allowed are {', '.join(PEERS)}")
    if not options.caezip_qualities:
        raise ParameterError("qualities: found none, allowed are numbers from 1 to 100")
    for quality in options.caezip_qualities:
        if not MIN_CAEZIP_QUALITY <= quality <= MAX_CAEZIP_QUALITY:  # also refuses NaN
            raise ParameterError(f"qualities: found {quality:g}, allowed are numbers from 1 to 100")
    return [PEERS[name](options) for name in dict.fromkeys(names)]


def make_default_peers(options: PeerOptions) -> tuple[list[Peer], list[MissingPeer]]:
    """``(peers, missing)``: the codecs of `DEFAULT_PEERS` that can be run here, and the others.

    Raises what `make_peers` raises for ``caezip`` itself, which is never just missing.
    """
    peers: list[Peer] = make_peers(["caezip"], options)
    missing: list[MissingPeer] = []
    for name in DEFAULT_PEERS[1:]:
        found = _peer_or_missing(name, options)
        if isinstance(found, MissingPeer):
            missing.append(found)
        else:
            peers.append(found)
    return peers, missing


def describe_peers(options: PeerOptions | None = None) -> list[tuple[str, bool, str]]:
    """``(name, available, settings or what is missing)`` of all codecs, in `PEERS`' order."""
    described: list[tuple[str, bool, str]] = []
    for name in PEERS:
        found = _peer_or_missing(name, options or PeerOptions())
        if isinstance(found, MissingPeer):
            described.append((name, False, found.reason))
        else:
            described.append((name, True, found.settings))
    return described


def _peer_or_missing(name: str, options: PeerOptions) -> Peer | MissingPeer:
    try:
        (peer,) = make_peers([name], options)
    except (UnknownModelError, MissingDependencyError) as error:
        return MissingPeer(name, str(error).removeprefix(f"{name}: "))
    return peer


__all__ = [
    "CAEZIP_QUALITIES",
    "DEFAULT_PEERS",
    "EFFORTS",
    "EFFORT_PREFIX",
    "PEERS",
    "AvifPeer",
    "AvifencPeer",
    "BpgPeer",
    "CaezipPeer",
    "CjxlPeer",
    "CwebpPeer",
    "Jpeg2000Peer",
    "JpegPeer",
    "JxlPeer",
    "KltPeer",
    "MissingPeer",
    "MozjpegPeer",
    "Peer",
    "PeerError",
    "PeerOptions",
    "PillowPeer",
    "PngPeer",
    "ProgramPeer",
    "VtmPeer",
    "WebpPeer",
    "ZooPeer",
    "avif_version",
    "describe_peers",
    "make_default_peers",
    "make_peers",
]
