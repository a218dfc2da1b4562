#!/usr/bin/env python3
"""Where the time of a training step goes: torch.profiler over some updates of a recipe, on a GPU where there is one.

    profile_step.py RECIPE [--updates 5] [a.b=value ...]

Prints seconds of audio per second (without the profiler), the share of time spent waiting for batches, and a table of
the operations that take longest.
"""

import argparse
import shutil
import sys
import time
from itertools import count
from pathlib import Path

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from asr.train.acoustic import AcousticTask
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.process import prepare_process
from asr.train.trainer import Trainer

WARM_UP = 5  # updates: kernels are chosen, memory is taken
ROWS = 25  # of the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    recipe = load_recipe(options.recipe, options.overrides)
    assert isinstance(recipe, AcousticRecipe)
    recipe.name = "profile"
    prepare_process(recipe.threads)
    if recipe.folder.exists():
        sys.exit(f"{recipe.folder}: is there already; set another output")
    try:
        steps(Trainer(AcousticTask, recipe, Console(stderr=True), resume=True), options.updates)
    finally:
        shutil.rmtree(recipe.folder, ignore_errors=True)


def steps(trainer: Trainer, updates: int) -> None:
    batches = (batch for epoch in count(2) for batch in trainer.task.data.train(epoch, 0))  # the first goes by length
    trainer.task.accelerate(getattr(torch, trainer.precision))
    trainer.model.train()
    with trainer.log.opened(1):
        run(trainer, batches, WARM_UP)
        rate, waiting = run(trainer, batches, 4 * updates)
        print(f"{rate:,.0f} s of audio per second, {waiting:.0%} of the time without a batch")
        activities = [ProfilerActivity.CPU]
        if trainer.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiled:
            run(trainer, batches, updates)
    key = "self_device_time_total" if trainer.device.type == "cuda" else "self_cpu_time_total"
    print(profiled.key_averages().table(sort_by=key, row_limit=ROWS, max_name_column_width=60))


def run(trainer: Trainer, batches, updates: int) -> tuple[float, float]:
    """Seconds of audio per second, and the share of time without a batch, of the real loop's update."""
    started, waited, audio = time.monotonic(), trainer.stats.waited, 0.0
    drawn = trainer.draw(batches)
    for _ in range(updates):
        assert drawn, "the data is too little for so many updates"
        update = trainer.update(drawn.batches, 1e-4)
        following = trainer.draw(batches)
        trainer.record(drawn, update)
        audio, drawn = audio + drawn.amount, following
    seconds = time.monotonic() - started
    return audio / seconds, (trainer.stats.waited - waited) / seconds


if __name__ == "__main__":
    main()
