"""Training of the linear layer: against the published loop, resumed after kills, refusing what it must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.adapt import (
    Labelled,
    LinearAdapter,
    TrainingOptions,
    load_adapter,
    matching_pairs,
    read_labels,
    train_linear,
)
from ilias_fast.errors import (
    DuplicateIdError,
    FileFormatError,
    IliasFastError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    UnknownIdError,
)
from ilias_fast.store import GlobalStore

torch = pytest.importorskip("torch", reason="training needs torch (extra: torch)")

from ilias_fast.adapt import training as module  # noqa: E402
from ilias_fast.adapt.softmax import SampledSoftmax, Softmax  # noqa: E402
from tests.oracles.adapt_training import Published  # noqa: E402

DIM, CLASSES = 24, 40
OPTIONS = TrainingOptions(dim=16, epochs=2, batch_size=32, seed=5)


def make(path: Path, count: int = 400, seed: int = 0) -> tuple[GlobalStore, dict[str, int]]:
    """Images of 40 classes around their centres, of unit length."""
    generator = np.random.default_rng(seed)
    classes = np.concatenate([np.arange(CLASSES), generator.integers(0, CLASSES, count - CLASSES)])
    rows = generator.standard_normal((CLASSES, DIM))[classes] + 0.7 * generator.standard_normal((count, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"{row}.jpg" for row in range(count)]
    with GlobalStore.create(path, dim=DIM) as writer:
        writer.append(ids, rows)
    return GlobalStore.open(path), dict(zip(ids, classes.tolist(), strict=True))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads for such small matrices wait for each other, above all on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> tuple[GlobalStore, dict[str, int]]:
    return make(tmp_path / "store")


def published(
    store: GlobalStore, labels: dict[str, int], options: TrainingOptions
) -> tuple[Any, list[float]]:
    """Run the published loop on the same batches from the same weights."""
    labelled = Labelled.match(store, labels)
    state = module.initial_state(store.dim, labelled.count, options)
    peer = Published(state["weight"], state["bias"], state["classifier"])
    features = torch.from_numpy(store.rows(labelled.rows).astype(np.float32))
    classes, size = torch.from_numpy(labelled.classes), options.batch_size
    losses = []
    for epoch in range(options.epochs):
        order = np.random.default_rng([options.seed, 1, epoch]).permutation(len(features))
        steps = range(0, len(features) - size + 1, size)
        batches = [torch.from_numpy(order[start : start + size]) for start in steps]
        losses.append(float(np.mean([peer.step(features[batch], classes[batch]) for batch in batches])))
    return peer, losses


@pytest.mark.parametrize("shard", [1 << 20, 7])
def test_the_published_loop_is_reproduced(
    data: tuple[GlobalStore, dict[str, int]], shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD", shard)
    monkeypatch.setattr(module, "_GROUP_BYTES", 2 * DIM * 32 * 5)  # five steps a group
    store, labels = data
    ours = train_linear(store, labels, OPTIONS)
    peer, losses = published(store, labels, OPTIONS)
    np.testing.assert_allclose(ours.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(ours.adapter.weight, peer.layer.weight.detach().numpy(), atol=2e-4)
    np.testing.assert_allclose(ours.adapter.bias, peer.layer.bias.detach().numpy(), atol=2e-4)
    assert (ours.classes, ours.images, ours.resumed) == (CLASSES, 400, 0)
    assert ours.losses[1] < ours.losses[0]


class Still:
    """An optimiser that notes gradients and moves nothing."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def step(self, *given: Any) -> None:
        self.taken.append(given[1].clone())


def test_gradients_equal_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 8, generator=generator)
    z = torch.nn.functional.normalize(torch.randn(6, 8, generator=generator)).requires_grad_()
    y = torch.tensor([0, 29, 3, 3, 11, 29])
    free = weight.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(16 * z @ torch.nn.functional.normalize(free).T, y)
    loss.backward()
    still = Still()
    state = {"weight": weight, "first": torch.zeros(30, 8), "second": torch.zeros(30, 8)}
    for shard in (30, 7, 1):
        still.taken.clear()
        with torch.no_grad():
            value, dz = Softmax(still, state, shard).step(z.detach(), y, 0)  # type: ignore[arg-type]
        assert float(value) == pytest.approx(loss.item(), rel=1e-6)
        np.testing.assert_allclose(dz, z.grad, atol=1e-6)
        np.testing.assert_allclose(torch.cat(still.taken), free.grad, atol=1e-6)


def test_sampled_classes_learn_too(data: tuple[GlobalStore, dict[str, int]]) -> None:
    store, labels = data
    few = TrainingOptions(dim=16, epochs=4, batch_size=8, seed=1, sampled_classes=20, learning_rate=3e-3)
    sampled = train_linear(store, labels, few)
    again = train_linear(store, labels, few)
    assert sampled.adapter.fingerprint == again.adapter.fingerprint
    assert sampled.losses[-1] < 0.7 * sampled.losses[0]


def test_a_sampled_softmax_is_the_whole_one_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(200, 64, generator=generator)
    z = torch.nn.functional.normalize(torch.randn(10, 64, generator=generator))
    y = torch.randint(0, 200, (10,), generator=generator)
    state = {"weight": weight, "first": torch.zeros(200, 64), "second": torch.zeros(200, 64)}
    still = Still()
    exact, dz = Softmax(still, state, 64).step(z, y, 0)  # type: ignore[arg-type]
    sampled = SampledSoftmax(still, state, 80, seed=0)  # type: ignore[arg-type]
    draws = [sampled.step(z, y, done) for done in range(300)]
    assert np.mean([float(loss) for loss, _ in draws]) == pytest.approx(float(exact), abs=0.1)
    mean = torch.stack([gradient for _, gradient in draws]).mean(0)
    np.testing.assert_allclose(mean, dz, atol=0.1 * float(dz.abs().max()))


def test_an_interrupted_training_goes_on_with_the_same_bits(
    data: tuple[GlobalStore, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP_BYTES", 1)  # a step a group
    store, labels = data
    whole = train_linear(store, labels, OPTIONS)
    for options in (OPTIONS, TrainingOptions(**{**vars(OPTIONS), "sampled_classes": 36})):
        whole = train_linear(store, labels, options)
        state = tmp_path / f"state-{options.sampled_classes}"
        for stop in (5, 12, 17):

            def interrupt(done: int, total: int, stop: int = stop) -> None:
                assert total == 24
                if done == stop:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                train_linear(store, labels, options, checkpoint=state, progress=interrupt)
        done = train_linear(store, labels, options, checkpoint=state)
        assert done.resumed == 17
        assert done.adapter.fingerprint == whole.adapter.fingerprint
        assert done.losses == whole.losses
        finished = train_linear(store, labels, options, checkpoint=state)
        assert (finished.resumed, finished.adapter.fingerprint) == (24, whole.adapter.fingerprint)
    other = TrainingOptions(**{**vars(OPTIONS), "learning_rate": 0.5})
    with pytest.raises(ParameterError, match=r"another training .*learning_rate"):
        train_linear(store, labels, other, checkpoint=tmp_path / "state-None")
    (tmp_path / "bad").write_bytes(b"garbage")
    with pytest.raises(FileFormatError, match="bad"):
        train_linear(store, labels, OPTIONS, checkpoint=tmp_path / "bad")
    whole.adapter.save(tmp_path / "adapter")
    with pytest.raises(FileFormatError, match="state of a training"):
        train_linear(store, labels, OPTIONS, checkpoint=tmp_path / "adapter")


KILLED = """
import sys
from tests.test_adapt_training import OPTIONS, make, module, train_linear
from ilias_fast.store import GlobalStore
from pathlib import Path
module._GROUP_BYTES = 1
folder = Path(sys.argv[1])
_, labels = make(folder / "again")
store = GlobalStore.open(folder / "store")
def say(done, total):
    print(done, flush=True)
    if done >= 9:
        import time
        time.sleep(60)
train_linear(
    store, labels, OPTIONS, checkpoint=folder / "state", checkpoint_seconds=0, progress=say, threads=1
)
"""


def test_a_killed_training_goes_on_with_the_same_bits(
    data: tuple[GlobalStore, dict[str, int]], tmp_path: Path
) -> None:
    store, labels = data
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 9:
            break
    process.kill()
    process.communicate()
    done = train_linear(store, labels, OPTIONS, checkpoint=tmp_path / "state")
    assert 8 <= done.resumed <= 9
    assert done.adapter.fingerprint == train_linear(store, labels, OPTIONS).adapter.fingerprint


def test_ctrl_c_waits_for_the_end_of_a_step(
    data: tuple[GlobalStore, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, labels = data
    whole = train_linear(store, labels, OPTIONS)
    step = Softmax.step

    def pressed(self: Softmax, z: Any, y: Any, done: int) -> Any:
        result = step(self, z, y, done)
        if done == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Softmax, "step", pressed)
        with pytest.raises(KeyboardInterrupt):
            train_linear(store, labels, OPTIONS, checkpoint=tmp_path / "state")
    done = train_linear(store, labels, OPTIONS, checkpoint=tmp_path / "state")
    assert done.resumed == 8
    assert done.adapter.fingerprint == whole.adapter.fingerprint


def test_rows_are_matched_by_id_not_by_number(
    data: tuple[GlobalStore, dict[str, int]], rng: np.random.Generator
) -> None:
    store, labels = data
    order = rng.permutation(len(store))
    ids = list(store.ids)
    shuffled = {ids[row]: labels[ids[row]] for row in order}
    found = Labelled.match(store, shuffled)
    assert found.rows.tolist() == list(range(400))
    one = [shuffled[id_] for id_ in ids]
    assert len(set(zip(found.classes.tolist(), one, strict=True))) == CLASSES  # the same partition
    first = next(iter(shuffled))
    assert found.classes[ids.index(first)] == 0
    missing = {f"x{id_}": label for id_, label in labels.items()}
    with pytest.raises(UnknownIdError, match=r"400 of 400 labels have no row, the first 'x0\.jpg'"):
        train_linear(store, missing)
    del labels["7.jpg"]
    with pytest.raises(UnknownIdError, match=r"1 of 400 rows have no label, the first '7\.jpg'"):
        train_linear(store, labels)
    part = Labelled.match(store, {**labels, "new": 3}, partial=True)
    assert len(part.rows) == 399
    assert part.ignored == (1, 1)
    assert 7 not in part.rows


def test_bad_training_input(data: tuple[GlobalStore, dict[str, int]]) -> None:
    store, labels = data
    with pytest.raises(ParameterError, match=r"at least two classes .* found 1"):
        train_linear(store, dict.fromkeys(labels, 0))
    with pytest.raises(ShapeError, match=r"batch of 1000 labelled images, found 400"):
        train_linear(store, labels, TrainingOptions(batch_size=1000))
    with pytest.raises(ParameterError, match="fewer than the 40 classes"):
        train_linear(store, labels, TrainingOptions(batch_size=8, sampled_classes=40))
    for device in ("cuda", "no such thing") if not torch.cuda.is_available() else ("no such thing",):
        with pytest.raises(ParameterError, match=f"cannot use '{device}'"):
            train_linear(store, labels, OPTIONS, device=device)
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        train_linear(store, labels, TrainingOptions(**{**vars(OPTIONS), "learning_rate": 1e38}))
    for wrong in (
        {"dim": 0},
        {"epochs": 0},
        {"batch_size": 1.5},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1},
        {"seed": -1},
        {"sampled_classes": 128},
    ):
        with pytest.raises(ParameterError, match=f"^{next(iter(wrong))}"):
            TrainingOptions(**wrong)  # type: ignore[arg-type]


def test_zero_vectors_move_nothing(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "zeros", dim=4) as writer:
        writer.append([str(row) for row in range(8)], np.zeros((8, 4), np.float16))
    labels = {str(row): row % 2 for row in range(8)}
    options = TrainingOptions(dim=3, epochs=2, batch_size=4, weight_decay=0)
    done = train_linear(GlobalStore.open(tmp_path / "zeros"), labels, options)
    assert done.losses == pytest.approx([np.log(2)] * 2)
    assert not done.adapter.bias.any()


def test_layers_are_exported_as_official_checkpoints(
    data: tuple[GlobalStore, dict[str, int]], tmp_path: Path
) -> None:
    layer = train_linear(*data, OPTIONS).adapter
    layer.export(tmp_path / "layer.pth")
    state = torch.load(tmp_path / "layer.pth", weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "layer.weight": (16, DIM),
        "layer.bias": (16,),
    }
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    again = load_adapter(tmp_path / "layer.pth")
    assert isinstance(again, LinearAdapter)
    assert again.fingerprint == layer.fingerprint
    layer.save(tmp_path / "layer.safetensors")
    kept = LinearAdapter.load(tmp_path / "layer.safetensors")
    assert kept.training["classes"] == CLASSES
    assert kept.provenance() == layer.provenance()


def test_label_files(tmp_path: Path) -> None:
    def read(text: str) -> dict[str, str]:
        (tmp_path / "labels.txt").write_text(text)
        return read_labels(tmp_path / "labels.txt")

    assert read("a.jpg,1,0\nb,c.jpg,1,1\r\n\nd.jpg,1,0\n") == {
        "a.jpg": "1,0",
        "b,c.jpg": "1,1",
        "d.jpg": "1,0",
    }
    assert read("a.jpg,cat\nb,c.jpg,dog") == {"a.jpg": "cat", "b,c.jpg": "dog"}
    assert read("a,b\tcat\tx\n") == {"a,b": "cat,x"}
    for text, error, message in (
        ("", FileFormatError, "found none"),
        ("a.jpg,1,0\nb.jpg,2\n", FileFormatError, "line 2: expected id,label,domain"),
        ("a.jpg\n", FileFormatError, "line 1: expected id,label"),
        ("a,1\nb,2\na,1\n", DuplicateIdError, "line 3: id 'a'"),
    ):
        kind: type[IliasFastError] = error
        with pytest.raises(kind, match=message):
            read(text)


def test_pairs_are_neighbours_of_a_class() -> None:
    labelled = Labelled(np.array([3, 5, 6, 8, 9]), np.array([1, 0, 1, 2, 1]), 3, (0, 0))
    queries, positives = matching_pairs(labelled)
    assert list(zip(queries.tolist(), positives.tolist(), strict=True)) == [(3, 6), (6, 9)]
    with pytest.raises(ParameterError, match="3 classes of one"):
        matching_pairs(Labelled(np.arange(3), np.arange(3), 3, (0, 0)))
