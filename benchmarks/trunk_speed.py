"""How fast the trunk pass is in each number type, beside a plain matrix product; prints one line of JSON.

`peak.py` runs it in a process of its own, because it looks inside rehead.

    python benchmarks/trunk_speed.py TEXTS.csv ...
"""

import json
import sys
from pathlib import Path

from labelled import read


def main() -> None:
    import torch

    from rehead.models import loading
    from rehead.models.tokenization import encode
    from rehead.runtime import hardware
    from rehead.training.features import trunk_pass

    base = loading.load("smollm2", n_classes=2, seed=0)
    ids = encode(base, [text for file in sys.argv[1:] for text in read(Path(file))[0]], max_length=512).ids
    passes = {}
    for dtype in (torch.float32, torch.bfloat16):
        frozen = base.frozen_in(dtype)
        before = hardware.product_speed(dtype)
        # Pooled over all tokens: for the last one alone the last block would do less than is counted.
        passed = trunk_pass(frozen, ids, depths=[len(base.layers)], pooling="mean")
        # The product's speed is the better of two moments, which counts against the pass.
        peak = max(before, hardware.product_speed(dtype))
        achieved = passed.forward_flops / passed.seconds
        name = str(dtype).removeprefix("torch.")
        passes[name] = {"gflops": achieved / 1e9, "product_gflops": peak / 1e9, "share": achieved / peak}
    print(json.dumps({"tokens": int(ids.lengths.sum()), "passes": passes, "versions": {"torch": torch.__version__}}))


if __name__ == "__main__":
    main()
