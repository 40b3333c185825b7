"""LitServe with batching around the plain Transformers model; runs in the peers' environment."""

import argparse
from typing import Any

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Classify(litserve.LitAPI):
    def __init__(self, model: str, dtype: str, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.dtype = model, dtype

    def setup(self, device: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        dtype = getattr(torch, self.dtype)
        self.model = AutoModelForSequenceClassification.from_pretrained(self.folder, dtype=dtype).to(device).eval()
        self.labels = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["text"])

    def predict(self, texts: list[str]) -> list[list[float]]:
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        with torch.inference_mode():
            probabilities = self.model(**inputs.to(self.model.device)).logits.float().softmax(1)
        result: list[list[float]] = probabilities.tolist()
        return result

    def encode_response(self, output: list[float]) -> dict[str, float]:
        return dict(zip(self.labels, output, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    api = Classify(options.model, options.dtype, max_batch_size=options.batch_size, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
