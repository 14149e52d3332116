"""Images per second of cxrseg's training step and of a plain PyTorch loop, with one network, in one run.

    python benchmarks/training.py [--recipe baseline-unet-small] [--steps 12] [--rounds 3] [--device cpu]

The peer is the loop that tutorials show: a Dataset that opens PNGs, augments each image on the CPU (flip, rotation,
scale, shift, brightness, contrast; torchvision), a DataLoader with two workers, float32. Both train the same network
on the same phantoms with the same loss and optimiser, infection alone. Rounds alternate, so that a machine whose speed
drifts does not favour one of them; the median round counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Sample
from cxrseg.phantom.generate import write_phantoms
from cxrseg.training.batches import load_pixels, select_samples
from cxrseg.training.lightning_module import Learner
from cxrseg.training.losses import build_loss
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe
from cxrseg.training.trainer import hide_lightning_hints, make_trainer

AS_THEY_ARE = "the same, bfloat16, depthwise as they are"
PLAIN = [
    *("optimiser.epochs=1", "data.categories=[COVID-19]", "data.targets=[infection]"),
    *("network.within_lungs=false", "network.classification_head=false"),
]
"""What the plain loop does not do."""
AUGMENT = ["flip=0.5", "rotation=10", "scale=0.1", "shift=0.05", "brightness=0.1", "contrast=0.2"]


class Images(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The peer's data: every access opens two files and varies one image."""

    def __init__(self, samples: tuple[Sample, ...], size: tuple[int, int]) -> None:
        self.samples = samples
        self.size = size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        sample = self.samples[index]
        image, mask = (
            tv.to_dtype(tv.to_image(Image.open(path).convert("L")), torch.float32, scale=True)
            for path in (sample.image, sample.masks["infection"])
        )
        image, mask = tv.resize(image, list(self.size)), tv.resize(mask, list(self.size))
        if torch.rand(()) < 0.5:
            image, mask = tv.horizontal_flip(image), tv.horizontal_flip(mask)
        angle, scale = float(torch.empty(()).uniform_(-10, 10)), float(torch.empty(()).uniform_(0.9, 1.1))
        shift = [int(torch.randint(-12, 13, ())) for _ in range(2)]
        image, mask = (
            tv.affine(one, angle, shift, scale, [0.0, 0.0], tv.InterpolationMode.BILINEAR) for one in (image, mask)
        )
        image = v2.ColorJitter(brightness=0.1, contrast=0.2)(image)
        return image, (mask >= 0.5).float()


def peer(recipe: Recipe, samples: tuple[Sample, ...], steps: int, device: torch.device) -> Iterator[float]:
    """Seconds of `steps` steps of the plain loop, each time it is asked."""
    network = build_network(recipe.network, ("infection",)).to(device)
    loss_of = build_loss(recipe.loss)
    optimiser = torch.optim.Adam(network.parameters(), recipe.optimiser.learning_rate)
    loader = DataLoader(Images(samples, recipe.data.size), recipe.optimiser.batch_size, shuffle=True, num_workers=2)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    batches = endless()
    while True:
        began = 0.0
        for step in range(steps + 2):
            if step == 2:  # the first two steps of a round warm up
                began = now(device)
            images, masks = (part.to(device) for part in next(batches))
            optimiser.zero_grad()
            loss_of(network(images).maps, masks).mean().backward()
            optimiser.step()
        yield now(device) - began


class Stopwatch(Callback):
    """Times steps, and what passes between the end of one and the start of the next."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waits: list[float] = []
        self.begins: list[float] = []
        self.end = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        moment = now(self.device)
        self.begins.append(moment)
        if self.end:
            self.waits.append(moment - self.end)

    def on_train_batch_end(self, *_: Any) -> None:
        self.end = now(self.device)


def ours(
    recipe: Recipe, samples: tuple[Sample, ...], steps: int, device: torch.device, fast: bool
) -> Iterator[tuple[float, float]]:
    """(seconds, fraction of them spent between steps) of `steps` steps of cxrseg's, each time it is asked.

    Where not `fast`, depthwise convolutions are left as they are.
    """
    pixels = load_pixels(samples, recipe.data)
    learner = Learner(recipe, pixels, pixels)
    while True:
        watch = Stopwatch(device)
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(recipe, Path(folder), [watch], device="gpu" if device.type == "cuda" else "cpu")
            trainer.limit_train_batches, trainer.limit_val_batches = steps + 2, 0
            slow = patch("cxrseg.training.lightning_module.FastDepthwise", nullcontext)
            with hide_lightning_hints(), nullcontext() if fast else slow:
                trainer.fit(learner)
        total = watch.end - watch.begins[2]
        yield total, sum(watch.waits[2:]) / total


def now(device: torch.device) -> float:
    """Seconds, after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="baseline-unet-small")
    parser.add_argument("--steps", type=int, default=12, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    common = [f"augment.{setting}" for setting in AUGMENT] + PLAIN
    variants = {
        "cxrseg, float32": ["optimiser.precision=float32", "optimiser.channels_last=false"],
        "cxrseg, float32, channels_last": ["optimiser.precision=float32", "optimiser.channels_last=true"],
        AS_THEY_ARE: ["optimiser.precision=bfloat16", "optimiser.channels_last=true"],
        "cxrseg, bfloat16, channels_last": ["optimiser.precision=bfloat16", "optimiser.channels_last=true"],
    }
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(args.recipe, common)
        count = recipe.optimiser.batch_size * (args.steps + 2)
        dataset = open_dataset(write_phantoms(Path(folder), {"train": {"COVID-19": count}}, size=256))
        samples = select_samples(dataset, recipe.data, "train")
        plain = peer(recipe, samples, args.steps, device)
        runs = {
            name: ours(load_recipe(args.recipe, common + more), samples, args.steps, device, name != AS_THEY_ARE)
            for name, more in variants.items()
        }
        peer_seconds: list[float] = []
        our_seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            peer_seconds.append(next(plain))
            for name, run in runs.items():
                our_seconds[name].append(next(run))
    images = args.steps * recipe.optimiser.batch_size
    base = images / statistics.median(peer_seconds)
    print(
        f"{args.recipe} on {device}, {torch.get_num_threads()} threads, batch {recipe.optimiser.batch_size}, "
        f"{args.rounds} rounds of {args.steps} steps"
    )
    print(f"{'':44}{'images/s':>10}{'ratio':>8}{'waiting for data':>18}")
    print(f"{'plain PyTorch loop, float32':44}{base:10.2f}{1:8.2f}{'':>18}")
    for name, rounds in our_seconds.items():
        speed = images / statistics.median(seconds for seconds, _ in rounds)
        waiting = statistics.median(fraction for _, fraction in rounds)
        print(f"{name:44}{speed:10.2f}{speed / base:8.2f}{waiting:18.1%}")


if __name__ == "__main__":
    main()
