"""Networks from torchvision: the benchmark's AlexNet, and any other classifier by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.extract.network import STATISTICS, Network, Wanted, describe_by, dimension
from ilias_fast.extract.weights import cannot_be_had, constructing, load

if TYPE_CHECKING:
    import torch

__all__ = ["build"]

_TRAINED = 224


def build(wanted: Wanted) -> Network:
    """Build a torchvision classifier without its last layer.

    The "head" descriptor is what the last linear layer is given (AlexNet: the 4096 activations of its second
    one, after ReLU); other poolings take the `features` (AlexNet, VGG, DenseNet, MobileNet, ...) or the last
    residual stage.

    Args:
        wanted: A torchvision model, or "alexnet" of the registry.

    Raises:
        ParameterError: torchvision has no such classifier, the pooling does not suit it, or the pretrained
            weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: torchvision is not installed.
    """
    torch = require("torch", "build torchvision models")
    torchvision = require("torchvision", "build torchvision models")
    known = torchvision.models.list_models(module=torchvision.models)
    if wanted.name not in known:
        raise ParameterError(f"torchvision has no classifier {wanted.name!r}; it has {', '.join(known)}")
    pretrained = {"weights": "IMAGENET1K_V1" if wanted.row is not None else "DEFAULT"}
    try:
        with constructing(wanted):
            options = pretrained if wanted.weights == "pretrained" else {"weights": None}
            module = torchvision.models.get_model(wanted.name, **options)
    except OSError as cause:
        raise cannot_be_had(wanted.name, cause) from cause
    last = _last_linear(module, torch)
    module.set_submodule(last, torch.nn.Identity())
    if wanted.checkpoint is not None:
        load(module, wanted, ignored=(f"{last}.",))
    module.eval()
    describe = describe_by(wanted, head=module, features=_features(module, torch))
    mean, std = STATISTICS["imagenet"]
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, _TRAINED, _TRAINED),
        mean=mean,
        std=std,
        train_size=_TRAINED,
        resolution=None if wanted.row is None else wanted.row.test_size,
        provenance=wanted.provenance("torchvision", str(torchvision.__version__), module),
    )


def _last_linear(module: Any, torch: Any) -> str:
    names = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)]
    if not names:
        raise ParameterError(f"{type(module).__name__} does not end with a linear layer")
    return str(names[-1])


def _features(module: Any, torch: Any) -> Any:
    if isinstance(getattr(module, "features", None), torch.nn.Module):
        body = module.features
    elif isinstance(getattr(module, "layer4", None), torch.nn.Module):
        children = dict(module.named_children())
        body = torch.nn.Sequential(
            *(child for name, child in children.items() if name not in ("avgpool", "fc"))
        )
    else:
        return None

    def features(batch: torch.Tensor) -> Any:
        return body(batch).flatten(2).transpose(1, 2)

    return features
