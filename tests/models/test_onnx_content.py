"""What of an ONNX file decides pixels, and so is in its digest: every field of onnx.proto with data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from napari_restore.errors import BadModel
from napari_restore.models import _onnx, load

TENSOR = TensorProto.DESCRIPTOR


def paths_to_data(kind: Any = onnx.ModelProto.DESCRIPTOR, above: tuple[Any, ...] = ()) -> Iterator:
    """The fields that lead from a model to a tensor, through each type of messages twice at most."""
    for field in kind.fields:
        inner = field.message_type
        if inner is TENSOR:
            yield (field.name,)
        elif inner is not None and above.count(inner) < (1 if len(above) > 5 else 2):
            for rest in paths_to_data(inner, (*above, inner)):
                yield (field.name, *rest)


PATHS = sorted(paths_to_data())


def test_the_paths_lead_through_all_types_with_data():
    fields = {name for path in PATHS for name in path}
    assert fields >= {"initializer", "sparse_initializer", "t", "tensors", "sparse_tensor", "g"}
    assert fields >= {"sparse_tensors", "graphs", "functions", "attribute_proto", "training_info"}
    assert fields >= {"values", "indices"}


def model_with(path: tuple[str, ...], location: str) -> Any:
    """A model with one tensor in the field that `path` leads to, whose data is in a file."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in "xy"]
    model = helper.make_model(helper.make_graph([], "g", ports[:1], ports[1:]))
    message: Any = model
    for name in path:
        message = getattr(message, name)
        if hasattr(message, "add"):
            message = message.add()
    message.SetInParent()
    message.data_type, message.data_location = TensorProto.FLOAT, TensorProto.EXTERNAL
    message.dims.append(1)
    entry = message.external_data.add()
    entry.key, entry.value = "location", location
    return model


@pytest.fixture
def unread(monkeypatch):
    """Take files that onnxruntime would not: no operator has attributes in some of the fields."""
    session = SimpleNamespace(get_inputs=list, get_outputs=list)
    monkeypatch.setattr(_onnx.OnnxFile, "_made", lambda self, threads, slope: session)
    monkeypatch.setattr(_onnx, "flat", lambda model: model)


@pytest.mark.usefixtures("unread")
def test_data_in_files_is_in_the_digest_wherever_it_is_named(tmp_path):
    (tmp_path / "net").mkdir()
    data, outside = tmp_path / "net" / "w.bin", tmp_path / "other.bin"
    outside.write_bytes(b"1234")
    file = tmp_path / "net" / "net.onnx"
    for path in PATHS:
        onnx.save(model_with(path, data.name), file)
        digests = set()
        for content in (b"1234", b"5678"):
            data.write_bytes(content)
            digests.add(_onnx.OnnxFile(file).sha256)
        assert len(digests) == 2, path
        for name in ("../other.bin", str(outside), "w.bin\0x"):
            onnx.save(model_with(path, name), file)
            with pytest.raises(BadModel, match="outside its folder"):
                _onnx.OnnxFile(file)


def test_other_sparse_weights_are_another_model(tmp_path):
    """A file of 8 bytes holds the weights: x times 0.5, then x times 0.9."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 3, "h", "w")) for n in "xy")
    nodes = [
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Mul", ["x", "m"], ["y"]),
    ]
    values = numpy_helper.from_array(np.array([0.5], np.float32), "w")
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    entry = values.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0])), [1])
    graph = helper.make_graph(nodes, "g", [x], [y], sparse_initializer=[sparse])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        Path(tmp_path / "net.onnx"),
    )
    models = []
    for weight in (0.5, 0.9):
        (tmp_path / "w.bin").write_bytes(np.float32(weight).tobytes())
        models.append(load(tmp_path / "net.onnx"))
    assert models[0].card.weights_sha256 != models[1].card.weights_sha256
