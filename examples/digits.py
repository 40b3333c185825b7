"""Put a head on a pretrained vision model (17 MB to fetch), and read handwritten digits with it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import rehead

result = rehead.fit("sample:digits", rehead.Classifier("efficientnet-lite0", tune="head"), "digits-model")
print(result)

# Images to classify are files; of these few, most are among those that it has learned from.
model = rehead.load("digits-model")
pixels, digits = load_digits(return_X_y=True)
with TemporaryDirectory() as folder:
    files = []
    for number, image in enumerate(pixels[:5].reshape(-1, 8, 8)):
        files.append(Path(folder, f"{number}.png"))
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(files[-1])
    print("answers:", *model.predict(files), " true:", *digits[:5])
