"""Train the small classifier that `qdm_lib.metrics` uses as a feature extractor.

    python tools/train_classifier.py mnist
    python tools/train_classifier.py fashion-mnist

trains on the full training set (QDM_DATA_DIR or --root) for a fixed number of epochs, measures the accuracy
on the full test set once, at the end, and writes qdm_lib/assets/classifier-<name>.safetensors with a JSON
card beside it. On one machine with the same number of threads, the same seed gives the same weights.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from qdm_lib.checks import whole
from qdm_lib.data import ASSETS, DATASETS, ImageSet, load_images
from qdm_lib.features import Classifier, extract


def train(model: Classifier, data: ImageSet, epochs: int, batch_size: int, rate: float, seed: int) -> None:
    """Cross-entropy, Adam, one cycle of the learning rate. The order comes from the seed."""
    steps = epochs * len(data) // whole("batch size", batch_size, 1, len(data))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for rows in tqdm(islice(shuffled_rows(len(data), batch_size, seed), steps), total=steps, unit="step"):
        _, logits = model(data.images[rows])
        loss = nn.functional.cross_entropy(logits, data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def shuffled_rows(n: int, batch_size: int, seed: int):
    """Row numbers of batch after batch, for ever; the rest of an epoch is dropped."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(n, generator=generator).split(batch_size):
            if len(rows) == batch_size:
                yield rows


def accuracy(model: Classifier, data: ImageSet) -> float:
    predicted: Tensor = extract(model, data.images).logits.argmax(1)
    return (predicted == data.labels).double().mean().item()


def write(path: Path, content: bytes) -> None:
    """Write atomically: readers see the old file or the new one, never half of one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=list(DATASETS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", help="folder of the full sets (default: QDM_DATA_DIR)")
    parser.add_argument("--out", type=Path, help="default: qdm_lib/assets/classifier-<name>.safetensors")
    args = parser.parse_args()
    out = args.out or ASSETS / f"classifier-{args.name}.safetensors"
    data, test = (load_images(args.name, split, root=args.root, bundled=False) for split in ("train", "test"))

    torch.manual_seed(args.seed)
    model = Classifier(len(data.class_names))
    started = time.perf_counter()
    train(model, data, args.epochs, args.batch_size, args.learning_rate, args.seed)
    seconds = time.perf_counter() - started
    content = safetensors.torch.save({key: value.contiguous() for key, value in model.state_dict().items()})
    card = {
        "dataset": args.name,
        "data": f"trained on train ({data.source}), tested on test ({test.source})",
        "test_accuracy": accuracy(model, test),
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "command": f"python tools/train_classifier.py {args.name} --epochs {args.epochs} "
        f"--batch-size {args.batch_size} --learning-rate {args.learning_rate} --seed {args.seed}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "num_features": model.num_features,
        "class_names": list(data.class_names),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write(out, content)
    write(out.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    print(f"{out}: {len(content):,} bytes, test accuracy {card['test_accuracy']:.2%}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
