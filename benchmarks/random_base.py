"""Writes a model of the same architecture as another that has learned nothing, with the other's tokenizer.

python benchmarks/random_base.py FOLDER NEW_FOLDER
"""

import sys

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer


def main() -> None:
    source, target = sys.argv[1:]
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(source)).save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)


if __name__ == "__main__":
    main()
