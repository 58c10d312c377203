"""Kill signals and full disks: the old output or the new one, never a part of either."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caezip
from commands import names
from images import noise

# writes two files' bytes to one target in turn, for ever
WRITER = """
import sys
from pathlib import Path
from caezip.image_io import write_atomically
target, *sources = map(Path, sys.argv[1:])
contents = [source.read_bytes() for source in sources]
print("ready", flush=True)
while True:
    for content in contents:
        write_atomically(target, content, force=True)
"""
CLI = [sys.executable, "-c", "from caezip.cli import main; main()"]
FULL_DISK_BYTES = 32 << 10


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    contents = [bytes([value]) * 3_000_000 for value in (1, 2)]
    sources = [tmp_path / f"source{number}" for number in range(2)]
    for source, content in zip(sources, contents, strict=True):
        source.write_bytes(content)
    target = tmp_path / "out" / "target"
    target.parent.mkdir()
    generator = random.Random(0)  # noqa: S311  # moments, not secrets
    unfinished = 0
    for _ in range(8):
        target.write_bytes(b"old")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, target, *sources], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        assert target.read_bytes() in [b"old", *contents]
        unfinished += len(names(target.parent)) - 1
    # some were killed while they wrote, or this would have shown nothing
    assert unfinished > 0


def _hear_ctrl_c() -> None:
    """A shell's background job starts with it ignored, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_encoder_that_is_interrupted_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
) -> None:
    Image.fromarray(noise(512, 512)).save(tmp_path / "in.png")
    target = tmp_path / "out.cae"
    target.write_bytes(b"old")
    command: list[str | Path] = [
        *CLI,
        "encode",
        tmp_path / "in.png",
        "-o",
        target,
        "--force",
        "--effort",
        "9",
    ]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        encoder = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hear_ctrl_c
        )
        time.sleep(1.0)
        encoder.send_signal(number)
        _, errors = encoder.communicate()
        assert encoder.returncode != 0
        assert b"Traceback" not in errors
        assert target.read_bytes() == b"old"
        assert names(tmp_path) == ["in.png", "out.cae"]


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, bytes]:
    """An image file whose .cae file is larger than the disk."""
    path = tmp_path / "in.png"
    Image.fromarray(noise(300, 400)).save(path)
    encoded = caezip.encode(noise(300, 400), quality=100)
    assert len(encoded) > 2 * FULL_DISK_BYTES
    return path, encoded


def test_a_full_disk_keeps_the_old_file_and_says_so(
    tmp_path: Path, picture: tuple[Path, bytes]
) -> None:
    unshare = shutil.which("unshare")
    namespace = [unshare or "unshare", "--user", "--map-root-user", "--mount"]
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let users mount a file system of their own")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={FULL_DISK_BYTES} none "$0" || exit 99\n'
        'printf old > "$0/out.cae"\n'
        '"$@"\n'
        "code=$?\n"
        '[ "$(cat "$0/out.cae")" = old ] || exit 98\n'
        '[ "$(ls -A "$0")" = out.cae ] || exit 97\n'
        "exit $code"
    )
    encode: list[str | Path] = [
        *CLI,
        "encode",
        picture[0],
        "-q",
        "100",
        "-o",
        disk / "out.cae",
        "--force",
    ]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, disk, *encode], capture_output=True, text=True
    )
    assert done.returncode == 6, done.stderr
    assert (
        done.stderr == f"caezip: {disk / 'out.cae'}: cannot be written: No space left on device\n"
    )


def test_a_file_over_the_size_limit_keeps_the_old_file_and_says_so(
    tmp_path: Path, picture: tuple[Path, bytes]
) -> None:
    packed, target = tmp_path / "in.cae", tmp_path / "out.png"
    packed.write_bytes(picture[1])
    target.write_bytes(b"old")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))

    done = subprocess.run(
        [*CLI, "decode", packed, "-o", target, "--force"],
        capture_output=True,
        text=True,
        preexec_fn=limit,  # no other thread runs here
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr == f"caezip: {target}: cannot be written: File too large\n"
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["in.cae", "in.png", "out.png"]


def test_the_decoded_picture_is_complete_when_there_is_room(
    tmp_path: Path, picture: tuple[Path, bytes]
) -> None:
    (tmp_path / "in.cae").write_bytes(picture[1])
    subprocess.run([*CLI, "decode", tmp_path / "in.cae", "--quiet", "--force"], check=True)
    with Image.open(tmp_path / "in.png") as decoded:
        expected = caezip.decode(picture[1])  # perhaps with another number of threads
        assert decoded.size == (expected.shape[1], expected.shape[0])
        assert np.abs(np.array(decoded).astype(int) - expected).max() <= 1
