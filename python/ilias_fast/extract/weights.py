"""Where a network's weights come from: drawn, downloaded, or a checkpoint that has to fit exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast import _arrays
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.extract.network import Wanted

if TYPE_CHECKING:
    import torch

__all__ = ["State", "cannot_be_had", "constructing", "download", "load", "load_state", "without_prefix"]

State = dict[str, "torch.Tensor"]


@contextmanager
def constructing(wanted: Wanted) -> Iterator[None]:
    """Build modules inside this: their random weights depend on the seed alone, or do not exist ("none").

    torch draws from its global generator, whose state is put back afterwards.
    """
    torch = require("torch", "build networks")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_arrays.at_least("seed", wanted.seed, 0))
        if wanted.weights == "none":
            with torch.device("meta"):
                yield
        else:
            yield


def load(
    module: torch.nn.Module,
    wanted: Wanted,
    *,
    url: str | None = None,
    sha256: str | None = None,
    convert: Callable[[State], State] = dict,
    ignored: tuple[str, ...] = (),
) -> None:
    """Give a module the weights asked for, from the address they are published at or from a checkpoint.

    Args:
        module: What to fill; drawn at random already.
        wanted: What was asked for.
        url: Where the pretrained weights are.
        sha256: Of the file there.
        convert: Turns the names in the file into the module's.
        ignored: Beginnings of names in the file that are not part of the descriptor.

    Raises:
        ParameterError: The pretrained weights cannot be had.
        StorageError, FileFormatError: As `load_state`.
    """
    if wanted.checkpoint is not None:
        path = Path(wanted.checkpoint)
    elif wanted.weights == "pretrained":
        assert url is not None, f"{wanted.name} has no address to download from"
        path = download(url, sha256, wanted.name)
    else:
        return
    load_state(module, convert(read_checkpoint(path)), path, wanted.name, ignored)


def load_state(
    module: torch.nn.Module, state: State, path: StrPath, name: str, ignored: tuple[str, ...] = ()
) -> None:
    """Copy tensors into a module that has exactly these.

    Args:
        module: What to fill.
        state: The tensors, by the module's names.
        path: Where they are from, for messages.
        name: The model, for messages.
        ignored: Beginnings of names to leave out.

    Raises:
        FileFormatError: A tensor is missing, of another shape (both are named), or not of this model.
    """
    own = module.state_dict()
    # A counter of training steps that old checkpoints do not have.
    missing = sorted(key for key in set(own) - set(state) if not key.endswith("num_batches_tracked"))
    if missing:
        raise FileFormatError(
            f"{path}: {len(missing)} of {len(own)} tensors of {name} are missing, the first is {missing[0]}"
        )
    for key, tensor in own.items():
        if key in state and tensor.shape != state[key].shape:
            raise FileFormatError(
                f"{path}: {key} should be {list(tensor.shape)} for {name}, found {list(state[key].shape)}"
            )
    unknown = sorted(key for key in set(state) - set(own) if not key.startswith(ignored or ("\0",)))
    if unknown:
        raise FileFormatError(
            f"{path}: {len(unknown)} tensors do not belong to {name}, the first is {unknown[0]}"
        )
    module.load_state_dict({key: state.get(key, tensor) for key, tensor in own.items()})


def without_prefix(state: State, *prefixes: str) -> State:
    """Return the tensors below the first of these prefixes that any name has; all of them if none does."""
    for prefix in prefixes:
        if any(key.startswith(prefix) for key in state):
            return {key[len(prefix) :]: tensor for key, tensor in state.items() if key.startswith(prefix)}
    return state


def download(url: str, sha256: str | None, name: str) -> Path:
    """Return the local copy of a published file, fetched if it is not there yet.

    Args:
        url: Where it is.
        sha256: Of its content; None if its owner publishes none.
        name: The model, for messages.

    Raises:
        ParameterError: It cannot be fetched, or its content is not what it should be.
    """
    hub = require("torch.hub", "download weights")
    path = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(path), progress=False)  # to a temporary name, then renamed
        if sha256 is not None:
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != sha256:
                raise ParameterError(
                    f"{name}: {path} should have the SHA-256 {sha256}, found {digest.hexdigest()}; delete it "
                    f"and try again"
                )
    except OSError as cause:
        raise cannot_be_had(name, cause) from cause
    return path


def cannot_be_had(name: str, cause: Any) -> ParameterError:
    """Return the error for pretrained weights that are out of reach."""
    reason = (str(cause).splitlines() or [""])[0]
    return ParameterError(
        f"the pretrained weights of {name} cannot be had ({type(cause).__name__}: {reason}); without a "
        f"network, give a checkpoint file (weights=PATH) or ask for random weights (weights='random')"
    )
