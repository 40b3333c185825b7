"""A server as one writes it first: FastAPI around transformers.pipeline; runs in the peers' environment."""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    texts: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    classify = pipeline("text-classification", model=options.model, dtype=getattr(torch, options.dtype), top_k=None)
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Request) -> list[dict[str, float]]:
        scored = classify(request.texts, truncation=True)
        return [{each["label"]: each["score"] for each in scores} for scores in scored]

    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
