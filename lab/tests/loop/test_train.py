from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import napari_restore as nr
from napari_restore.errors import (
    BadModel,
    BadOutput,
    BadParameter,
    Cancelled,
    InputError,
    OutOfMemory,
)
from napari_restore_lab.data import Batch
from napari_restore_lab.loop import (
    BEST,
    CHECKPOINT,
    LOG,
    NO_PLOT,
    Control,
    Learner,
    State,
    Validator,
    make_network,
)
from napari_restore_lab.loop._train import train
from napari_restore_lab.synthetic_haze import ClearScene

SIZE = 32
MakeConfig = Callable[..., Any]
MakePictures = Callable[..., Any]


@pytest.fixture(autouse=True)
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are drawn in test_log.py."""
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open(newline="") as file:
        return list(csv.DictReader(file))


def losses_of(folder: Path) -> list[str]:
    return [row["loss"] for row in rows_of(folder)]


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    else:
        assert a == b


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, average, optimiser and losses, bit for bit."""
    a, b = state_of(one), state_of(other)
    for part in ("model", "average", "updates", "optimiser"):
        assert_equal(a[part], b[part])
    # A row of a score that was stopped has its figures behind it, in a row of their own.
    first, second = ([loss for loss in losses_of(path) if loss] for path in (one, other))
    assert first == second


def stopped_after(steps: int) -> Control:
    """Cancels at question number `steps` of this call, asked before steps and dev scenes."""
    asked = iter(range(10_000))
    return Control(cancelled=lambda: next(asked) >= steps)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    for name in ("one", "two"):
        account = train(make_config(run={"output": name}), make_pictures(), "cpu")
        assert (account["status"], account["step"], account["skipped"]) == ("done", 50, 0)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert len(losses_of(tmp_path / "one")) == 50
    train(make_config(run={"output": "other", "seed": 1, "steps": 5}), make_pictures(), "cpu")
    assert losses_of(tmp_path / "other")[:5] != losses_of(tmp_path / "one")[:5]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    stages = [{"steps": 12}, {"steps": 10, "train_only": ["decode", "head"]}]
    short = {"score_every": 7, "checkpoint_every": 5}
    whole = make_config(run={"output": "whole", **short}, stage=stages)
    train(whole, make_pictures(), "cpu")
    config = make_config(run={"output": "pieces", **short}, stage=stages)
    # While it scores, then beside the end of the first stage, then in the second.
    for steps in (7, 6, 3):
        with pytest.raises(Cancelled, match="Stopped at step"):
            train(config, make_pictures(), "cpu", stopped_after(steps))
    account = train(config, make_pictures(), "cpu")
    assert account["step"] == 22
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")
    assert (tmp_path / "whole" / BEST).read_bytes() == (tmp_path / "pieces" / BEST).read_bytes()


@pytest.mark.slow
def test_rows_behind_the_checkpoint_are_told_once(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    config = make_config(run={"steps": 30})
    with pytest.raises(KeyboardInterrupt):
        # A machine that goes down saves nothing more.
        train(config, make_pictures(), "cpu", Control(cancelled=_breaks_at(29)))
    # Saved with the first score.
    assert state_of(tmp_path / "run")["state"]["step"] == 25
    train(config, make_pictures(), "cpu")
    assert [int(row["step"]) for row in rows_of(tmp_path / "run")] == list(range(1, 31))


def _breaks_at(step: int) -> Callable[[], bool]:
    asked = iter(range(10_000))

    def cancelled() -> bool:
        if next(asked) >= step:
            raise KeyboardInterrupt
        return False

    return cancelled


@pytest.mark.slow
def test_another_configuration_is_not_gone_on_with(
    make_config: MakeConfig, make_pictures: MakePictures
):
    with pytest.raises(Cancelled):
        train(make_config(), make_pictures(), "cpu", stopped_after(2))
    with pytest.raises(BadParameter, match=r"^optimiser\.lr was 0\.001 .* 0\.002 now\. Put it"):
        train(make_config(optimiser={"lr": 2e-3}), make_pictures(), "cpu")
    changed = {"stop_after": 100.0, "score_every": 1000, "log_every": 10}
    assert train(make_config(run=changed), make_pictures(), "cpu")["step"] == 50


@pytest.mark.slow
def test_a_time_limit_saves_and_stops(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    ticks = iter(range(100_000))
    control = Control(clock=lambda: float(next(ticks)))
    account = train(make_config(run={"stop_after": 0.5}), make_pictures(), "cpu", control)
    assert account["status"] == "stopped"
    assert 0 < account["step"] < 50
    assert state_of(tmp_path / "run")["state"]["step"] == account["step"]
    assert train(make_config(), make_pictures(), "cpu")["step"] == 50


@pytest.mark.slow
def test_a_time_limit_changes_neither_steps_nor_what_is_kept(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    every = {"score_every": 8, "checkpoint_every": 9, "steps": 20}
    train(make_config(run={"output": "whole", **every}), make_pictures(), "cpu")
    pieces = make_config(run={"output": "pieces", "stop_after": 0.2, **every})
    calls = 0
    while True:
        ticks = iter(range(100_000))
        control = Control(clock=lambda ticks=ticks: float(next(ticks)))
        calls += 1
        if train(pieces, make_pictures(), "cpu", control)["status"] == "done":
            break
    assert calls > 2
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")
    assert (tmp_path / "whole" / BEST).read_bytes() == (tmp_path / "pieces" / BEST).read_bytes()
    told = [[r["step"] for r in rows_of(tmp_path / n) if r["score"]] for n in ("whole", "pieces")]
    assert told[0] == told[1] == ["8", "16", "20"]


@pytest.mark.slow
def test_atmosphere_learns_and_goes_on_bit_for_bit(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    tables = {
        "model": {"id": "atmosphere", "sizes": {"width": 6}},
        "recipe": {"size": 64, "batch": 2},
    }
    for name, stops in (("whole", ()), ("pieces", (3,))):
        config = make_config(**tables, run={"output": name, "steps": 6, "ema": 0.0})
        for steps in stops:
            with pytest.raises(Cancelled):
                train(config, make_pictures(dev=False), "cpu", stopped_after(steps))
        assert train(config, make_pictures(dev=False), "cpu")["skipped"] == 0
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")
    for loss in ("l1", "ssim", "depth", "airlight"):
        assert all(float(row[loss]) >= 0 for row in rows_of(tmp_path / "whole"))


@pytest.mark.slow
def test_weights_of_unit_length_keep_it_from_step_to_step(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    config = make_config(
        model={"id": "andehazeformer-small", "sizes": {}},
        optimiser={"lr": 0.1, "warmup": 0, "weight_decay": 0.0},
        run={"steps": 3},
    )
    assert train(config, make_pictures(dev=False), "cpu")["skipped"] == 0
    content = state_of(tmp_path / "run")
    for state in (content["model"], content["average"]):
        for name, dim in (("attention.query", 1), ("mlp.into", 1), ("mlp.out", 0)):
            lengths = state[f"globals.0.{name}.weight"].norm(dim=dim)
            assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)
    assert not torch.equal(
        content["model"]["globals.0.mlp.out.weight"], content["average"]["globals.0.mlp.out.weight"]
    )
    # The card beside the weights names the network, though it is not listed.
    model = nr.load_model(str(tmp_path / "run" / "andehazeformer-small.safetensors"))
    assert model.card.id == "andehazeformer-small"


@pytest.mark.parametrize("model", ["haze-unet", "atmosphere", "andehazeformer-small"])
@pytest.mark.ids("slow", "andehazeformer-small")
def test_a_step_in_bfloat16_is_finite(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path, model: str
):
    sizes = {"atmosphere": {"width": 6}, "haze-unet": {"width": 4, "blocks": 1}}.get(model, {})
    config = make_config(
        model={"id": model, "sizes": sizes},
        recipe={"size": 64, "batch": 2},
        run={"steps": 2, "bf16": True},
    )
    assert train(config, make_pictures(dev=False), "cpu")["skipped"] == 0
    state = state_of(tmp_path / "run")["model"]
    assert all(torch.isfinite(v).all() and v.dtype == torch.float32 for v in state.values())


@pytest.mark.slow
def test_other_scores_seek_the_best_anew(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    run = {"steps": 20, "score_every": 5}
    with pytest.raises(Cancelled):
        train(make_config(run=run), make_pictures(), "cpu", stopped_after(18))
    old = state_of(tmp_path / "run")["state"]
    assert old["best_step"] > 0
    told: list[Any] = []
    changed = make_config(run=run, score={"seed": 5, "classical": True})
    account = train(changed, make_pictures(), "cpu", Control(emit=told.append))
    assert any("determined again" in getattr(event, "text", "") for event in told)
    assert "aerial_dcp_0.95" in account["figures"]
    rows = rows_of(tmp_path / "run")
    anew = [row for row in rows if row["score"] and row["aerial_dcp_0.95"]]
    assert account["best"]["score"] == pytest.approx(
        max(float(row["score"]) for row in anew), rel=1e-4
    )


def test_the_file_of_the_best_belongs_to_the_checkpoint(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    config = make_config(run={"steps": 12, "score_every": 5})
    with pytest.raises(Cancelled):
        train(config, make_pictures(), "cpu", stopped_after(9))
    assert state_of(tmp_path / "run")["state"]["best_step"] == 5
    # As a kill between two files leaves it.
    (tmp_path / "run" / BEST).write_bytes(b"of another step")
    account = train(config, make_pictures(), "cpu")
    assert account["best"]["step"] > 5
    nr.load_model(account["weights"])


def test_memory_that_runs_out_is_told_and_nothing_is_lost(
    make_config: MakeConfig,
    make_pictures: MakePictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    step = Learner.step

    def full(self: Learner, batch: Any, state: Any) -> Any:
        if state.step == 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return step(self, batch, state)

    config = make_config(run={"steps": 6})
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", full)
        with pytest.raises(OutOfMemory, match=r"after step 3\. Choose a smaller recipe\.batch"):
            train(config, make_pictures(), "cpu")
    assert state_of(tmp_path / "run")["state"]["step"] == 3
    assert train(config, make_pictures(), "cpu")["step"] == 6


def test_without_a_loss_nothing_is_learned(make_config: MakeConfig, make_pictures: MakePictures):
    nothing = {"l1": 0.0, "log_error": 0.0, "ssim": 0.0, "auxiliary": 0.0}
    with pytest.raises(BadParameter, match="leaves no loss"):
        train(make_config(loss=nothing), make_pictures(), "cpu")


def test_a_stage_may_be_as_long_as_a_time(make_config: MakeConfig, make_pictures: MakePictures):
    ticks = iter(range(100_000))
    control = Control(clock=lambda: float(next(ticks)))
    config = make_config(run={}, stage=[{"minutes": 0.5}])
    account = train(config, make_pictures(), "cpu", control)
    assert account["status"] == "done"
    # One tick of the clock before a step and one after it.
    assert account["seconds"] >= 30


def test_a_step_that_went_wrong_is_not_taken(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    account = train(make_config(run={"steps": 10}), make_pictures(4), "cpu")
    assert account["skipped"] == 1
    rows = rows_of(tmp_path / "run")
    assert [row["loss"] == "" for row in rows] == [n == 4 for n in range(10)]
    state = state_of(tmp_path / "run")
    assert state["updates"] == 9
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_three_wrong_steps_in_a_row_go_back_to_the_average(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    told: list[Any] = []
    config = make_config(run={"steps": 13, "checkpoint_every": 5})
    with pytest.raises(Cancelled):
        train(config, make_pictures(10, 11, 12), "cpu", stopped_after(10))
    saved = state_of(tmp_path / "run")["average"]
    train(config, make_pictures(10, 11, 12), "cpu", Control(emit=told.append))
    notes = [event.text for event in told if type(event).__name__ == "Note"]
    assert any("restarted from the average of step 10" in note for note in notes)
    assert_equal(state_of(tmp_path / "run")["model"], saved)


def test_a_run_that_only_goes_wrong_gives_up(make_config: MakeConfig, make_pictures: MakePictures):
    with pytest.raises(InputError, match="diverges: 18 of 18 steps"):
        train(make_config(), make_pictures(*range(50)), "cpu")


@pytest.mark.slow
def test_an_explosion_is_not_taken(make_config: MakeConfig, make_pictures: MakePictures):
    config = make_config(run={"steps": 60, "skip_above": 1e-6})
    assert train(config, make_pictures(dev=False), "cpu")["skipped"] > 0


def test_only_chosen_parameters_are_trained(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    config = make_config(run={"steps": 3, "train_only": ["middle"], "checkpoint_every": 1})
    with pytest.raises(Cancelled):
        train(config, make_pictures(), "cpu", stopped_after(0))
    before = state_of(tmp_path / "run")["model"]
    train(config, make_pictures(), "cpu")
    after = state_of(tmp_path / "run")["model"]
    changed = {name.partition(".")[0] for name in after if not after[name].equal(before[name])}
    assert changed == {"middle"}
    with pytest.raises(BadParameter, match="train_only 'bottom' matches no parameter"):
        train(make_config(run={"train_only": ["bottom"]}), make_pictures(), "cpu")


@pytest.mark.slow
def test_the_weights_load_by_their_card(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    config = make_config(run={"steps": 30, "name": "mine"})
    account = train(config, make_pictures(), "cpu")
    path = tmp_path / "run" / "mine.safetensors"
    assert account["weights"] == str(path)
    model = nr.load_model(str(path))
    assert model.card.id == "haze-unet"
    assert model.card.weights_sha256 == account["sha256"]
    assert "1 pictures of 1 sources" in model.card.trained_on
    card = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert card["training"]["licences"] == ["CC0-1.0"]
    assert card["training"]["config"]["run"]["steps"] == 30
    assert str(tmp_path) not in json.dumps(card)
    # The best average, in half precision.
    best = load_file(tmp_path / "run" / BEST)
    for name, tensor in model.state_dict().items():
        assert tensor.equal(best[name].half().float())


NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.enter = torch.nn.Conv2d(3, width, 3, padding=1)
        self.leave = torch.nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return x + self.leave(torch.relu(self.enter(x)))


def make(width: int = 2):
    return Net(width)
"""


OTHERS = """
import torch


def larger():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Upsample(scale_factor=2))


def grey():
    return torch.nn.Conv2d(1, 1, 3, padding=1)
"""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("larger", "results of another size: scale 2"), ("grey", "takes 1 band, and pictures have 3")],
)
def test_networks_of_ones_own_that_fit_no_pictures(
    make_config: MakeConfig, tmp_path: Path, name: str, sentence: str
):
    (tmp_path / "net.py").write_text(OTHERS)
    model = {"id": "", "sizes": {}, "factory": f"net.py:{name}"}
    config = make_config(model=model)
    with pytest.raises(BadParameter, match=sentence):
        make_network(config.model, config.run.seed, trust=True)


@pytest.mark.slow
def test_a_network_of_ones_own_is_trained(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    net = tmp_path / "net.py"
    net.write_text(NET)
    model = {"id": "", "sizes": {}, "factory": "net.py:make", "parameters": {"width": 4}}
    config = make_config(model=model, run={"train_only": ["leave"]})
    with pytest.raises(BadModel, match=r"net\.py is Python code"):
        train(config, make_pictures(), "cpu")
    account = train(replace(config, trust=True), make_pictures(), "cpu")
    assert account["weights"] == str(tmp_path / "run" / "net.safetensors")
    made = nr.load_model(
        f"{net}:make", weights=account["weights"], parameters={"width": 4}, trust=True
    )
    start = make_network(config.model, config.run.seed, trust=True).weighted
    trained = made.weighted.state_dict()
    changed = {
        name for name, tensor in start.state_dict().items() if not tensor.equal(trained[name])
    }
    assert {"leave.weight", "leave.bias"} <= changed
    # Half precision alone changes the others.
    torch.testing.assert_close(trained["enter.weight"], start.enter.weight.half().float())
    # Its code decides what a run is.
    net.write_text(NET.replace("relu", "tanh"))
    with pytest.raises(BadParameter, match=r"model\.code was"):
        train(replace(config, trust=True), make_pictures(), "cpu")


def test_a_run_may_start_with_the_weights_of_another(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    train(make_config(run={"steps": 3}), make_pictures(), "cpu")
    path = tmp_path / "run" / "haze-unet.safetensors"
    warm = make_config(model={"weights": str(path)}, run={"output": "warm"})
    with pytest.raises(Cancelled):
        train(warm, make_pictures(), "cpu", stopped_after(0))
    started = state_of(tmp_path / "warm")["model"]
    assert_equal({k: v.half() for k, v in started.items()}, load_file(path))


def test_weights_of_another_run_are_not_written_over(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "haze-unet.safetensors").write_bytes(b"precious")
    with pytest.raises(BadOutput, match="exists"):
        train(make_config(), make_pictures(), "cpu")


def test_without_matplotlib_it_says_once_that_no_plot_is_drawn(
    make_config: MakeConfig, make_pictures: MakePictures, tmp_path: Path
):
    told: list[Any] = []
    train(make_config(run={"steps": 2}), make_pictures(), "cpu", Control(emit=told.append))
    notes = [event.text for event in told if type(event).__name__ == "Note"]
    assert notes.count(NO_PLOT) == 1
    assert not (tmp_path / "run" / "training.png").exists()


@pytest.mark.slow
def test_hint_can_be_trained_and_a_network_may_correct_itself_after_a_step(
    make_config: MakeConfig, make_pictures: MakePictures
):
    config = make_config(
        model={"id": "hint-small", "sizes": {"width": 8, "latent": 1, "blocks2": 1, "blocks3": 1}},
        recipe={"degradation": "noise"},
        optimiser={"warmup": 0},
        run={"steps": 2},
    )
    learner, state = Learner(config, torch.device("cpu")), State()
    batch, calls = make_pictures().feed(config.stages[0].recipe).batch(0), []
    batch.valid[0, :, :8] = False
    learner.model.after_step = lambda: calls.append(state.step)
    losses = [learner.step(batch, state) for _ in range(4)]
    assert all(result is not None for result in losses)
    assert losses[-1].loss < losses[0].loss
    assert set(losses[0].losses) == {"l1", "fft"}
    assert len(calls) == 4


@pytest.mark.slow
def test_a_network_learns_to_fuse_brackets(make_config: MakeConfig):
    config = make_config(
        model={"id": "ipl-small", "sizes": {"dim": 4, "blocks": 1}},
        recipe={"degradation": "bracket"},
        optimiser={"warmup": 0, "lr": 2e-4, "schedule": "constant"},
        run={"steps": 2},
    )
    learner, state = Learner(config, torch.device("cpu")), State()
    scene = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    frames = torch.cat([(scene * gain).clamp(max=1) for gain in (0.5, 1.0, 2.0)], dim=1)
    zeros, ones = torch.zeros(2, 1, SIZE, SIZE), torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool)
    batch = Batch(frames, scene.sqrt(), zeros, torch.ones(2, 3), ones, ("a",) * 2)
    losses = [learner.step(batch, state) for _ in range(12)]
    assert all(result is not None for result in losses)
    assert losses[-1].loss < 0.9 * losses[0].loss
    clear = ClearScene(
        "a", "natural", scene[0].permute(1, 2, 0).numpy(), np.ones((SIZE, SIZE), bool)
    )
    scores = Validator([clear], config.score, "bracket").score(learner.model)
    assert scores["score"] == scores["bracket_2_model"] > 5
