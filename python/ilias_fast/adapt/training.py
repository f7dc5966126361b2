"""Training of the benchmark's linear adaptation layer by normalised softmax.

z = (W x + b) / ||W x + b||, classifier rows c_j of unit length, cross entropy of 16 cos(z, c_j); W is Xavier
uniform, b zero, c_j uniform in +-1 / sqrt(D_out); Adam at a constant rate, coupled weight decay, float32;
batches are those of a fresh permutation each epoch, the last incomplete one left out. That is the published
training, seeded here, without one-hot targets, and with features and labels matched by id. (A zero vector has
no direction: it counts in the loss and moves nothing.)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.adapt.checkpoint import Checkpoint
from ilias_fast.adapt.labels import Labelled
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.products import product_on
from ilias_fast.adapt.softmax import Adam, SampledSoftmax, Softmax
from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.store import GlobalStore
from ilias_fast.store.formats.prefetch import prefetched

if TYPE_CHECKING:
    import torch

__all__ = ["Training", "TrainingOptions", "initial_state", "train_linear"]

_GROUP_BYTES = 8 << 20
_SHARD = 2048  # what is made of it stays in the cache


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the training; the defaults are the paper's.

    Attributes:
        dim: Dimension of the adapted descriptors.
        epochs: Passes over the features.
        batch_size: Images a step.
        learning_rate: Of Adam.
        weight_decay: Coupled (L2), on all parameters.
        sampled_classes: Classes in the softmax of each step: those of the batch and uniform draws of the
            others, an approximation that is much faster with many classes on a CPU; None for all.
        seed: Of initial weights, permutations and draws.

    Examples:
        >>> TrainingOptions().epochs, TrainingOptions(dim=128, sampled_classes=10_000).batch_size
        (2, 128)
    """

    dim: int = 512
    epochs: int = 2
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    sampled_classes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ParameterError: A setting is outside its range.
        """
        for name in ("dim", "epochs", "batch_size"):
            _arrays.at_least_one(name, getattr(self, name))
        if not 0 <= _arrays.count("seed", self.seed) < 1 << 63:
            raise ParameterError(f"seed: expected a whole number from 0 to 2^63 - 1, found {self.seed}")
        for name in ("learning_rate", "weight_decay"):
            value = _arrays.real(name, getattr(self, name))
            if not 0 <= value < float("inf") or (name == "learning_rate" and value == 0):
                raise ParameterError(f"{name}: expected a positive number, found {value}")
        if self.sampled_classes is not None:
            _arrays.at_least("sampled_classes", self.sampled_classes, self.batch_size + 1)


@dataclass(frozen=True)
class Training:
    """What a training gave.

    Attributes:
        adapter: The layer.
        losses: Mean loss of each epoch.
        classes: Number of classes.
        images: Number of labelled images.
        resumed: Steps that an earlier run had taken.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [0.6, 0.8]])
        >>> labels = {"a.jpg": "mug", "b.jpg": "lamp", "c.jpg": "lamp"}
        >>> options = TrainingOptions(dim=2, epochs=3, batch_size=2)
        >>> training = train_linear(GlobalStore.open("vectors"), labels, options, device="cpu")
        >>> training.classes, training.images, len(training.losses)
        (2, 3, 3)
    """

    adapter: LinearAdapter
    losses: list[float]
    classes: int
    images: int
    resumed: int


def train_linear(
    store: GlobalStore,
    labels: Mapping[str, Hashable],
    options: TrainingOptions | None = None,
    *,
    partial: bool = False,
    device: str | None = None,
    checkpoint: StrPath | None = None,
    checkpoint_seconds: float = 300.0,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Training:
    """Train a linear adaptation layer on a store's features.

    Features are read from the store as they are needed, some megabytes ahead, so memory holds the classifier
    three times (its values and Adam's moments: 1.2 GB for 191,513 classes at 512 dimensions) and nothing that
    grows with the images. With a `checkpoint`, a training that was interrupted or killed goes on there, and
    the result has the bits of one that was not (on the same device, torch and number of threads).

    Args:
        store: The features, as the benchmark uses them: of unit length.
        labels: The label of each id (`read_labels`); equal labels are one class.
        options: Settings; None for the paper's.
        partial: Use only the ids that are both in the store and labelled, instead of refusing others.
        device: A torch device; None for CUDA if there is one, else the CPU.
        checkpoint: File to save the state in and to go on from; None for none. It is left when done.
        checkpoint_seconds: How often, about.
        threads: Threads torch may use on the CPU; None to leave it as it is.
        progress: Called with (steps done, steps in all).

    Raises:
        UnknownIdError: Labels and rows do not match.
        ParameterError: Fewer than two classes, a device that does not exist or has too little memory, a
            checkpoint of other settings, or `sampled_classes` that are not fewer than the classes.
        ShapeError: Fewer labelled images than a batch.
        NonFiniteError: The loss is NaN or infinite.
        MissingExtraError: torch is not installed.
        StorageError, FileFormatError: The checkpoint cannot be written or read.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [0.6, 0.8]])
        >>> store = GlobalStore.open("vectors")
        >>> labels = {"a.jpg": "mug", "b.jpg": "lamp", "c.jpg": "lamp"}
        >>> training = train_linear(store, labels, TrainingOptions(dim=2, batch_size=2), device="cpu")
        >>> training.adapter.apply(store.rows([0])).shape
        (1, 2)
    """
    torch = require("torch", "train adaptation layers", extra="torch")
    options = options or TrainingOptions()
    labelled = Labelled.match(store, labels, partial=partial)
    steps = len(labelled.rows) // options.batch_size
    if steps == 0:
        raise ShapeError(
            f"labels: expected at least a batch of {options.batch_size} labelled images, "
            f"found {len(labelled.rows)}; use a smaller batch_size"
        )
    if options.sampled_classes is not None and options.sampled_classes >= labelled.count:
        raise ParameterError(
            f"sampled_classes: expected fewer than the {labelled.count} classes there are, "
            f"found {options.sampled_classes}; leave it out to use all"
        )
    place = device_of(device or ("cuda" if torch.cuda.is_available() else "cpu"), "train adaptation layers")
    saved = Checkpoint(
        checkpoint,
        {**asdict(options), "store": store.checksum, "labels": labelled.fingerprint, "dim_in": store.dim},
        checkpoint_seconds,
    )
    with _threads(torch, threads), torch.no_grad():
        try:
            state = saved.load() or initial_state(store.dim, labelled.count, options)
            trainer = _Trainer(
                torch, {name: torch.from_numpy(t).to(place) for name, t in state.items()}, options
            )
            resumed = saved.done
            total = steps * options.epochs
            with prefetched(_groups(store, labelled, options, resumed, steps)) as groups:
                _run(torch, trainer, groups, saved, steps, total, progress)
        except torch.cuda.OutOfMemoryError as cause:
            raise ParameterError(
                f"device: {labelled.count} classes at {options.dim} dimensions do not fit the memory of "
                f"{place}; use sampled_classes, a smaller batch_size, or device='cpu'"
            ) from cause
        weights = {name: trainer.state[name].cpu().numpy().copy() for name in ("weight", "bias")}
    record: dict[str, object] = {
        **asdict(options),
        "images": len(labelled.rows),
        "classes": labelled.count,
        "losses": [round(loss, 6) for loss in saved.losses],
    }
    adapter = LinearAdapter(weights["weight"], weights["bias"], record)
    return Training(adapter, saved.losses, labelled.count, len(labelled.rows), resumed)


def initial_state(width: int, classes: int, options: TrainingOptions) -> dict[str, NDArray[np.float32]]:
    """Return the state before the first step: drawn on the CPU, whatever the device.

    Args:
        width: Dimension of the features.
        classes: Number of classes.
        options: Settings; `dim` and `seed` are used.
    """
    generator = np.random.default_rng([options.seed, 0])
    limit = np.sqrt(6 / (width + options.dim))

    def uniform(limit: float, *shape: int) -> NDArray[np.float32]:
        values = generator.random(shape, np.float32)
        values *= np.float32(2 * limit)
        values -= np.float32(limit)
        return values

    state = {
        "weight": uniform(limit, options.dim, width),
        "bias": np.zeros(options.dim, np.float32),
        "classifier": uniform(options.dim**-0.5, classes, options.dim),
    }
    moments = {
        f"{name}.{moment}": np.zeros_like(value)
        for name, value in state.items()
        for moment in ("first", "second")
    }
    return {**state, **moments}


class _Trainer:
    """The state on its device, and one step of it."""

    def __init__(self, library: Any, state: dict[str, torch.Tensor], options: TrainingOptions) -> None:
        self.torch, self.state = library, state
        self._adam = Adam(options.learning_rate, options.weight_decay)
        self._product = product_on(state["weight"].device)
        classifier = {
            "weight": state["classifier"],
            "first": state["classifier.first"],
            "second": state["classifier.second"],
        }
        self._softmax: Softmax | SampledSoftmax
        if options.sampled_classes is None:
            on_cpu = classifier["weight"].device.type == "cpu"
            self._softmax = Softmax(self._adam, classifier, _SHARD if on_cpu else len(classifier["weight"]))
        else:
            self._softmax = SampledSoftmax(self._adam, classifier, options.sampled_classes, options.seed)

    def step(self, x: torch.Tensor, y: torch.Tensor, done: int) -> torch.Tensor:
        """Learn from a batch x float32 [B, D] of classes y; return its loss before the step."""
        lib, weight, bias = self.torch, self.state["weight"], self.state["bias"]
        raw = self._product(x, weight).add_(bias)
        norm = lib.linalg.vector_norm(raw, dim=1, keepdim=True)
        inverse = lib.where(norm > 1e-12, norm.clamp(min=1e-12).reciprocal(), 0.0)
        z = raw * inverse
        loss, dz = self._softmax.step(z, y, done)
        slope = (dz - z * (dz * z).sum(1, keepdim=True)) * inverse
        for name, gradient in (("weight", self._product(slope.T, x.T)), ("bias", slope.sum(0))):
            moments = self.state[f"{name}.first"], self.state[f"{name}.second"]
            self._adam.step(self.state[name], gradient, *moments, done)
        return loss


def _run(
    torch: Any,
    trainer: _Trainer,
    groups: Iterator[tuple[NDArray[np.float16], NDArray[np.int64]]],
    saved: Checkpoint,
    steps: int,
    total: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    place = trainer.state["bias"].device
    lost = torch.tensor(saved.lost, dtype=torch.float64, device=place)

    def save() -> None:
        saved.lost = float(lost)
        saved.save({name: tensor.cpu().numpy() for name, tensor in trainer.state.items()})

    if progress is not None:
        progress(saved.done, total)
    try:
        for features, classes in groups:
            rows, targets = torch.from_numpy(features).to(place), torch.from_numpy(classes).to(place)
            with _between_steps() as check:
                for x, y in zip(rows, targets, strict=True):
                    lost += trainer.step(x.float(), y, saved.done)
                    saved.done += 1
                    check()
            value = float(lost)
            if not np.isfinite(value):
                raise NonFiniteError(
                    f"the loss is {value} after {saved.done} steps: features that are not finite, or a "
                    f"learning_rate that is too high"
                )
            if saved.done % steps == 0:
                saved.losses.append(value / steps)
                lost.zero_()
            if progress is not None:
                progress(saved.done, total)
            if saved.is_due() or (saved.done % steps == 0 and saved.done < total):
                save()
    except KeyboardInterrupt:
        save()
        raise
    save()


@contextmanager
def _between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the function that is given is called: half a step must not be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed: list[int] = []

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _groups(
    store: GlobalStore, labelled: Labelled, options: TrainingOptions, done: int, steps: int
) -> Generator[tuple[NDArray[np.float16], NDArray[np.int64]], None, None]:
    """Yield features [steps, batch, D] and classes [steps, batch] of some steps at a time.

    From step `done` on. A group's rows are read in the order of the store and put in theirs.
    """
    size = options.batch_size
    group = max(1, _GROUP_BYTES // (2 * store.dim * size))
    for epoch in range(done // steps, options.epochs):
        order = np.random.default_rng([options.seed, 1, epoch]).permutation(len(labelled.rows))
        start = done % steps if epoch == done // steps else 0
        for step in range(start, steps, group):
            places = order[step * size : min(step + group, steps) * size]
            ascending = np.argsort(places)
            features = np.empty((len(places), store.dim), np.float16)
            features[ascending] = store.rows(labelled.rows[places[ascending]])
            count = len(places) // size
            yield features.reshape(count, size, store.dim), labelled.classes[places].reshape(count, size)


@contextmanager
def _threads(torch: Any, threads: SupportsIndex | None) -> Iterator[None]:
    wanted, before = _arrays.threads(threads), torch.get_num_threads()
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
