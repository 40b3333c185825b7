"""An ONNX model in 8-bit integers: a fourth of the size, and faster where processors multiply them well."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rehead.export.onnx_file import FILE, INT8_FILE, OUTPUT, silence
from rehead.runtime.errors import SettingError

# Smaller tables, such as those of positions, stay as they are.
_WORTHWHILE_BYTES = 1_000_000


def quantise(folder: Path) -> None:
    """Write a model in 8-bit integers beside the one in float32.

    Matrix products with weights are those of integers. Weights are rounded once, with a scale for each output; what
    they are multiplied with is rounded as it comes, with one scale for the whole batch. Weights have 7 bits: with 8,
    two products may overflow the 16 bits in which x86 processors without VNNI add them up, and the model would be
    another one there than where it was compared. Embeddings have a scale for each token. The last layer stays as it
    is: it is small, and no later one makes up for its errors.

    Raises:
        SettingError: there is no such product.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    is_large = len(list(folder.glob(f"{FILE}*"))) > 1
    graph = onnx.load(folder / FILE, load_external_data=False).graph
    last = _last_layer(graph)
    target = folder / INT8_FILE
    made = target.parent / "made"
    made.mkdir()
    with silence():
        quantize_dynamic(
            folder / FILE,
            made / target.name,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # The quantizer first makes a product and a sum of a layer with a bias.
            nodes_to_exclude=[last, f"{last}_MatMul"],
            use_external_data_format=is_large,
        )
    model = onnx.load(made / target.name)
    if not any(node.op_type == "MatMulInteger" for node in model.graph.node):
        raise SettingError("`int8` is for matrix products, and this network has convolutions instead; leave it out")
    _round_embeddings(model.graph)
    shutil.rmtree(made)
    onnx.save(model, target, save_as_external_data=is_large, location=f"{target.name}.data")


def _last_layer(graph: Any) -> str:
    """Return the name of the head's product, to which the logits of n-grams may be added."""
    makes = {name: node for node in graph.node for name in node.output}
    node = makes[OUTPUT]
    while node.op_type == "Add":
        node = makes[node.input[0]]
    return str(node.name)


def _round_embeddings(graph: Any) -> None:
    """Has rows of large tables looked up as integers, and then multiplied by the scale of each."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes = []
    for node in graph.node:
        nodes.append(node)
        weight = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if weight is None or weight.data_type != TensorProto.FLOAT or len(weight.dims) != 2 or uses[weight.name] > 1:
            continue
        table = numpy_helper.to_array(weight)
        if table.nbytes < _WORTHWHILE_BYTES:
            continue
        scale = np.abs(table).max(1, keepdims=True) / np.float32(127)
        # A row of nothing but zeros, as padding may have.
        scale[scale == 0] = 1
        name, result = weight.name, node.output[0]
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(np.rint(table / scale).astype(np.int8), f"{name}_rounded"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        node.input[0], node.output[0] = f"{name}_rounded", f"{result}_rounded"
        nodes += [
            helper.make_node("Cast", [f"{result}_rounded"], [f"{result}_whole"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", node.input[1]], [f"{result}_scale"], axis=0),
            helper.make_node("Mul", [f"{result}_whole", f"{result}_scale"], [result]),
        ]
    graph.ClearField("node")
    graph.node.extend(nodes)
