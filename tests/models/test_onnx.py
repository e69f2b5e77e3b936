"""ONNX files as own models, against onnxruntime called directly."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import napari_restore as nr
from napari_restore.engine import probe
from napari_restore.errors import BadModel
from napari_restore.models import content_of, load, sloped
from napari_restore.models._onnx_graph import with_slopes

FREE = (1, 3, "height", "width")


def kernel(seed: int, outputs: int, inputs: int, side: int, gain: float = 1.0) -> Any:
    values = np.random.default_rng(seed).normal(size=(outputs, inputs, side, side))
    return (gain * values / (inputs * side**2)).astype(np.float32)


def graph(
    nodes: Sequence[Any],
    weights: dict[str, Any],
    shape: Sequence[Any] = FREE,
    *,
    kind: int = TensorProto.FLOAT,
    more_inputs: Sequence[Any] = (),
    outputs: Sequence[str] = ("y",),
    domains: Sequence[str] = (),
) -> Any:
    """A model from `x` to `outputs`, all of the shape of `x`."""
    made = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", kind, shape), *more_inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def blur(shape: Sequence[Any] = FREE, gain: float = 0.3) -> Any:
    """x + conv(clip(conv(x))): two pixels around, the inner one hidden where the clip saturates."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    weights = {
        "w1": kernel(1, 4, 3, 3, gain),
        "w2": kernel(2, 3, 4, 3),
        "low": np.float32(0),
        "high": np.float32(1),
    }
    return graph(nodes, weights, shape)


def saved(folder: Path, model: Any, name: str = "net") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def directly(path: Path, x: Any, **others: Any) -> Any:
    """What onnxruntime makes of the whole image (h, w, 3)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y, *_) = session.run(None, {"x": x.transpose(2, 0, 1)[None], **others})
    return y[0].transpose(1, 2, 0)


def picture(height: int = 150, width: int = 170) -> Any:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def restored(image: Any, model: Any) -> Any:
    result = nr.restore(image, model, tile=64, white=1.0, black=0.0)
    return np.asarray(result)


@pytest.mark.slow
@pytest.mark.parametrize("card", [None, {"bands": 3, "halo": 0}], ids=["measured", "wrong card"])
@pytest.mark.ids("nightly", "measured", "wrong card")
def test_tiles_equal_onnxruntime_on_the_whole(tmp_path, card):
    path = saved(tmp_path, blur())
    model = nr.load_model(path, card=card)
    np.testing.assert_allclose(restored(picture(), model), directly(path, picture()), atol=1e-6)
    assert probe(model).halo == 2


@pytest.mark.nightly
def test_windows_of_one_size_equal_onnxruntime_on_the_whole(tmp_path):
    path = saved(tmp_path, blur((1, 3, 96, 96)), "fixed")
    model = nr.load_model(path)
    # Sides are multiples of the step of its windows: others are reflected at their edges.
    image = picture(160, 192)
    whole = directly(saved(tmp_path, blur()), image)
    got = restored(image, model)
    np.testing.assert_allclose(got, whole, atol=1e-6)


def enlarging(scale: int, shape: Sequence[Any]) -> Any:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[2] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=scale, mode="CRD"),
    ]
    return graph(nodes, {"w1": kernel(1, 8, 3, 5), "w2": kernel(2, 3 * scale**2, 8, 3)}, shape)


@pytest.mark.parametrize(
    ("scale", "shape", "card"),
    [
        (2, (1, 3, "h", "w"), False),
        (3, (1, 3, "h", "w"), True),
        (2, (1, 3, 64, 64), True),
        (3, (1, 3, 64, 64), False),
    ],
    ids=["batch of one", "batch of one, card", "one size, card", "one size"],
)
def test_results_of_another_scale_equal_onnxruntime(tmp_path, scale, shape, card):
    free = saved(tmp_path, enlarging(scale, FREE), "free")
    model = nr.load_model(
        saved(tmp_path, enlarging(scale, shape)), card={"scale": scale} if card else None
    )
    assert model.card.scale == scale
    # Sides that are multiples of the step of windows: others are reflected at their edges.
    image = picture(103, 141) if "h" in shape else picture(128, 160)
    np.testing.assert_allclose(restored(image, model), directly(free, image), atol=1e-6)


def saturated(*limits: Any, functions: Sequence[Any] = ()) -> Any:
    """x + conv(0): values far below what the nodes `limits`, from a to b, let through."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "bias"], ["a"], pads=[1, 1, 1, 1]),
        *limits,
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    weights = {"w1": kernel(1, 4, 3, 3), "bias": np.full(4, -5, np.float32)}
    weights |= {"w2": kernel(2, 3, 4, 3), "low": np.float32(0), "high": np.float32(1)}
    weights |= {"bands": np.array([1])}
    made = graph(nodes, weights, domains=["own"] if functions else [])
    made.functions.extend(functions)
    return made


POSITIVE = helper.make_function(
    "own",
    "Positive",
    ["u"],
    ["v"],
    [helper.make_node("Relu", ["u"], ["v"])],
    [helper.make_opsetid("", 17)],
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        saturated(helper.make_node("Relu", ["a"], ["b"])),
        saturated(helper.make_node("Clip", ["a", "low", "high"], ["b"])),
        saturated(
            helper.make_node("Cast", ["low"], ["zero"], to=1),
            helper.make_node("Max", ["zero", "a"], ["m"]),
            helper.make_node("Min", ["m", "high"], ["b"]),
        ),
        saturated(helper.make_node("Positive", ["a"], ["b"], domain="own"), functions=[POSITIVE]),
        saturated(
            helper.make_node("Mul", ["x", "low"], ["none"]),
            helper.make_node("ReduceSum", ["none", "bands"], ["limit"]),
            helper.make_node("Max", ["limit", "a"], ["b"]),
        ),
        saturated(helper.make_node("HardSwish", ["a"], ["b"])),
    ],
    ids=["ReLU", "clip", "minimum and maximum", "function", "larger of two maps", "HardSwish"],
)
def test_a_saturated_layer_hides_no_halo(tmp_path, made):
    model = nr.load_model(saved(tmp_path, made))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model(x)[..., 4:-4, 4:-4], x[..., 4:-4, 4:-4])
    assert probe(model).halo == 2


@pytest.mark.slow
def test_a_network_of_the_whole_image_is_named(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    path = saved(tmp_path, graph(nodes, {}))
    plan = nr.plan(picture(), path, tile=64, white=1.0, black=0.0)
    assert sum("GlobalAveragePool" in note for note in plan.notes) == 2
    np.testing.assert_allclose(restored(picture(), path), directly(path, picture()), atol=1e-6)


def test_a_model_of_one_size_that_takes_all_of_it_is_refused(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    with pytest.raises(BadModel, match="images of 64 × 64 pixels only"):
        load(saved(tmp_path, graph(nodes, {}, (1, 3, 64, 64))))


def two_inputs(kind: int = TensorProto.FLOAT) -> Any:
    sigma = helper.make_tensor_value_info("sigma", kind, (1, 1, 1, 1))
    return graph([helper.make_node("Mul", ["x", "sigma"], ["y"])], {}, more_inputs=[sigma])


def test_a_second_input_is_a_noise_level_if_the_card_says_so(tmp_path):
    path = saved(tmp_path, two_inputs())
    with pytest.raises(BadModel, match=r"2 inputs: x, sigma\. If sigma is a noise level"):
        load(path)
    model = load(path, card={"noise_level": 51, "noise_as": "argument"}, parameters={"sigma": 102})
    x = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(model(x), 0.4 * x)


def test_a_noise_level_may_be_a_map(tmp_path):
    sigma = helper.make_tensor_value_info("sigma", TensorProto.FLOAT, (1, 1, "height", "width"))
    nodes = [
        helper.make_node("Concat", ["x", "sigma"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "w"], ["y"]),
    ]
    added = np.hstack([np.eye(3), np.ones((3, 1))]).astype(np.float32)
    path = saved(tmp_path, graph(nodes, {"w": added[..., None, None]}, more_inputs=[sigma]))
    model = load(path, card={"noise_level": 51, "noise_as": "argument"})
    x = torch.rand(2, 3, 32, 48)
    torch.testing.assert_close(model(x), x + 0.2)


def test_of_several_outputs_the_card_names_one(tmp_path):
    nodes = [
        helper.make_node("Neg", ["x"], ["less"]),
        helper.make_node("Sqrt", ["x"], ["more"]),
    ]
    path, x = saved(tmp_path, graph(nodes, {}, outputs=("less", "more"))), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load(path)(x), -x)
    torch.testing.assert_close(load(path, card={"output": 1})(x), x.sqrt())
    torch.testing.assert_close(load(path, card={"output": "more"})(x), x.sqrt())
    with pytest.raises(BadModel, match=r"no output 'best'; it has less, more"):
        load(path, card={"output": "best"})


def test_a_card_says_the_range_of_values(tmp_path):
    path = saved(tmp_path, graph([helper.make_node("Neg", ["x"], ["y"])], {}))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load(path, card={"value_range": [-1, 1]})(x), 1 - x)


def test_a_batch_of_one_and_half_precision(tmp_path):
    made = graph(
        [helper.make_node("Neg", ["x"], ["h"]), helper.make_node("Cast", ["h"], ["y"], to=1)],
        {},
        kind=TensorProto.FLOAT16,
    )
    x = torch.rand(3, 3, 24, 40)
    y = load(saved(tmp_path, made), card={"bands": 3})(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, -x, atol=1e-3, rtol=0)


def test_gradients_are_refused_with_what_to_do(tmp_path):
    model = load(saved(tmp_path, blur()))
    with pytest.raises(BadModel, match=r"has no gradients.*FILE\.py:factory"):
        model(torch.rand(1, 3, 32, 32, requires_grad=True))


def outside(folder: Path, location: str) -> Path:
    """A model whose kernel lies in the file `location`."""
    made = blur()
    for tensor in made.graph.initializer:
        if tensor.name == "w1":
            (folder / "w1.bin").write_bytes(tensor.raw_data)
            onnx.external_data_helper.set_external_data(tensor, location)
            tensor.ClearField("raw_data")
    path = folder / "outside.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_weights_in_a_file_beside_it_belong_to_the_model(tmp_path):
    path, x = outside(tmp_path, "w1.bin"), torch.rand(1, 3, 32, 32)
    model = load(path)
    torch.testing.assert_close(model(x), load(saved(tmp_path, blur()))(x))
    (tmp_path / "w1.bin").write_bytes(kernel(9, 4, 3, 3).tobytes())
    other = load(path)
    assert other.card.weights_sha256 != model.card.weights_sha256
    assert content_of(other) != content_of(model)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link/w1.bin"])
def test_weights_elsewhere_are_not_read(tmp_path, location):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(BadModel, match="outside its folder"):
        load(outside(folder, location))


def test_a_name_of_weights_that_is_no_text_is_refused(tmp_path):
    path = outside(tmp_path, "w1.bin")
    path.write_bytes(path.read_bytes().replace(b"w1.bin", b"w1\xff\xfein"))
    with pytest.raises(
        BadModel, match=r"no readable ONNX model: the name of a file in it is no UTF-8"
    ):
        load(path)


def test_links_of_a_cache_of_a_hub_are_followed(tmp_path):
    """As huggingface_hub lays them: all that a snapshot has are links to the blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    outside(tmp_path, "model.onnx_data").rename(blobs / "aa")
    (tmp_path / "w1.bin").rename(blobs / "bb")
    for name, blob in (("model.onnx", "aa"), ("model.onnx_data", "bb")):
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    model, x = load(snapshot / "model.onnx"), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model(x), load(saved(tmp_path, blur()))(x))
    with sloped(0.25):
        torch.testing.assert_close(model(9 * x), load(tmp_path / "net.onnx")(9 * x))
    # A link that leads elsewhere than the file itself does is still refused.
    (snapshot / "model.onnx_data").unlink()
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (snapshot / "model.onnx_data").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(BadModel, match="outside its folder"):
        load(snapshot / "model.onnx")


def test_weights_in_other_files_stay_there_where_slopes_are_given(tmp_path):
    path = outside(tmp_path, "w1.bin")
    graph = onnx.load_model_from_string(
        with_slopes(onnx.load(path, load_external_data=False), 0.25)
    )
    # With them a model of more than 2 GB would not fit into one message.
    (kept,) = (each for each in graph.graph.initializer if each.name == "w1")
    assert not kept.raw_data and kept.data_location == TensorProto.EXTERNAL
    x = 9 * torch.rand(1, 3, 32, 32)
    model, whole = load(path), load(saved(tmp_path, blur()))
    plain = model(x)
    with sloped(0.25):
        torch.testing.assert_close(model(x), whole(x))
        assert not torch.allclose(model(x), plain)


def test_missing_weights_are_a_sentence(tmp_path):
    with pytest.raises(BadModel, match=r"lacks its weights gone\.bin"):
        load(outside(tmp_path, "gone.bin"))


def foreign() -> Any:
    node = helper.make_node("Anything", ["x"], ["y"], domain="com.example")
    return graph([node], {}, domains=["com.example"])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (foreign(), r"operator com\.example\.Anything, which needs a library of code"),
        (graph([helper.make_node("Neg", ["x"], ["y"])], {}, (1, 64, 64, 3)), "bands last"),
        (graph([helper.make_node("Neg", ["x"], ["y"])], {}, (1, 3)), "does not take images"),
        (
            graph([helper.make_node("Cast", ["x"], ["y"], to=1)], {}, kind=TensorProto.UINT8),
            r"takes tensor\(uint8\) as x, not floats",
        ),
        (
            graph([helper.make_node("Neg", ["x"], ["y"])], {}, domains=["none.at.all"]),
            None,
        ),
    ],
    ids=["operator", "bands last", "no image", "integers", "unused domain"],
)
def test_unfit_models(tmp_path, model, sentence):
    path = saved(tmp_path, model)
    if sentence is None:
        load(path)
        return
    with pytest.raises(BadModel, match=sentence):
        load(path)


def package(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


def test_a_package_of_darktable_is_its_model(tmp_path):
    content = saved(tmp_path, blur()).read_bytes()
    path = package(
        tmp_path / "blur.dtmodel", {"blur/model.onnx": content, "blur/config.json": b"{}"}
    )
    image = picture(60, 70)
    expected = restored(image, tmp_path / "net.onnx")
    np.testing.assert_array_equal(restored(image, path), expected)
    x = torch.rand(1, 3, 20, 20, requires_grad=True)
    with sloped(0.1), torch.no_grad():
        assert torch.equal(load(str(path))(x), load(str(tmp_path / "net.onnx"))(x))
    path = package(
        tmp_path / "blur.dtmodel", {"blur/model.onnx": saved(tmp_path, blur(gain=0.1)).read_bytes()}
    )
    assert not np.array_equal(restored(image, path), expected)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (None, r"net\.dtmodel is no package \(File is not a zip file\)\. Download it again\."),
        ({"a/config.json": b"{}"}, "does not have one .onnx file .* Unpack it"),
        ({"a.onnx": b"", "b.onnx": b""}, "does not have one .onnx file .* Unpack it"),
        ({"a.onnx": b"no model"}, "net.dtmodel"),
    ],
)
def test_other_packages_are_a_sentence(tmp_path, members, sentence):
    path = tmp_path / "net.dtmodel"
    path.write_bytes(b"no zip")
    if members is not None:
        package(path, members)
    with pytest.raises(BadModel, match=sentence):
        load(str(path))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(64)])
def test_damaged_files_are_a_sentence(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=r"bad\.onnx is no (readable )?ONNX model"):
        load(path)


@pytest.mark.parametrize("name", [b"height", b"Conv"])
def test_names_that_are_no_text_are_a_sentence(tmp_path, capfd, name):
    path = tmp_path / "bad.onnx"
    path.write_bytes(blur().SerializeToString().replace(name, b"\xf9" + name[1:]))
    with pytest.raises(BadModel, match=r"bad\.onnx is no (readable )?ONNX model"):
        load(path)
    # What onnxruntime prints would be in the output of --json.
    assert capfd.readouterr().out == ""


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    path = saved(tmp_path, blur())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("napari_restore.models._onnx.find_spec", lambda name: None)
    with pytest.raises(BadModel, match=r"napari-restore\[onnx\]"):
        load(path)


def test_what_it_takes_is_counted(tmp_path):
    """At least input and the widest layer, at most a few times them."""
    from napari_restore.engine.machine.device import choose_device
    from napari_restore.engine.machine.device_memory import peak_of

    model, x = load(saved(tmp_path, blur())), torch.rand(1, 3, 128, 128)
    model(x)
    counted = peak_of(lambda: model(x), choose_device("cpu"))
    assert 4 * 7 * 128**2 < counted < 4 * 100 * 128**2
