"""Fine-tunes EfficientNet-lite0 on folders of images with a plain PyTorch loop, as tutorials have it.

The published package's network and weights, Pillow, a data loader, AdamW, cross-entropy, batches of 16, every image
decoded and passed in every epoch. Prints one JSON object with the accuracy on the test folder.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from peer_answers import keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path, help="a folder with a sub-folder a class")
    parser.add_argument("test", type=Path, help="likewise")
    parser.add_argument("weights", type=Path, help="the published file")
    parser.add_argument("--tune", choices=("head", "full"), required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--predictions", type=Path, help="where to write what was predicted for each test image")
    options = parser.parse_args()
    import numpy as np
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image

    names = sorted(folder.name for folder in options.train.iterdir() if folder.is_dir())
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    class Folder(torch.utils.data.Dataset[Any]):
        def __init__(self, root: Path) -> None:
            self.files = sorted(root.rglob("*.jpg"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            image = Image.open(self.files[i]).convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
            left, upper = (image.width - 224) // 2, (image.height - 224) // 2
            square = torch.from_numpy(np.asarray(image.crop((left, upper, left + 224, upper + 224))).copy())
            return ((square / 255 - mean) / std).permute(2, 0, 1), names.index(self.files[i].parent.name)

    torch.manual_seed(options.seed)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    model._fc = torch.nn.Linear(1280, len(names))
    if options.tune == "head":
        model.requires_grad_(False)
        model._fc.requires_grad_(True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3 if options.tune == "head" else 1e-4)
    loader = torch.utils.data.DataLoader(Folder(options.train), batch_size=16, shuffle=True)
    for _ in range(options.epochs):
        model.train(options.tune == "full")
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    probabilities, labels = [], []
    with torch.inference_mode():
        for images, expected in torch.utils.data.DataLoader(Folder(options.test), batch_size=16):
            probabilities.append(model(images).softmax(1))
            labels.append(expected)
    predicted = torch.cat(probabilities).argmax(1)
    if options.predictions:
        keep(options.predictions, names, [[names[i]] for i in predicted], torch.cat(probabilities))
    print(json.dumps({"test": {"accuracy": float((predicted == torch.cat(labels)).float().mean())}}))


if __name__ == "__main__":
    main()
