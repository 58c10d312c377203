"""The progress bar of a training run."""

from __future__ import annotations

from tqdm import tqdm

from caezip.training.trainer import Progress, Trainer


def run_with_progress_bar(trainer: Trainer) -> None:
    """`Trainer.run` behind a bar with loss, bpp, PSNR and the time left."""
    with tqdm(
        total=100,
        desc="training",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        mininterval=1.0,
    ) as bar:

        def report(progress: Progress) -> None:
            bar.n = min(100.0, 100 * progress.share_done)
            bar.set_postfix_str(
                f"step {progress.step} loss {progress.loss:.3f} "
                f"{progress.bpp:.3f} bpp {progress.psnr_db:.2f} dB",
                refresh=False,
            )
            bar.update(0)

        trainer.run(report)
