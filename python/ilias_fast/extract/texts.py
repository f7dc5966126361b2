"""Descriptors of text queries, by the text tower that belongs to an image model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.extract.devices import Precision, autocast
from ilias_fast.extract.network import Wanted, state_fingerprint
from ilias_fast.extract.open_clip_models import create, tokenizer
from ilias_fast.extract.registry import find_model, models

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["TextExtractor", "extract_texts"]

# Image models of timm that the benchmark's code knows the text tower of, beyond its registry.
_MORE = {
    "vit_so400m_patch14_siglip_384.webli": "hf-hub:timm/ViT-SO400M-14-SigLIP-384",
    "vit_giantopt_patch16_siglip_384.v2_webli": "hf-hub:timm/ViT-gopt-16-SigLIP2-384",
    "vit_so400m_patch16_siglip_512.v2_webli": "hf-hub:timm/ViT-SO400M-16-SigLIP2-512",
}


class TextExtractor:
    """Descriptors of unit length of texts, to compare with those of the images of the same model.

    As the protocol says: the text goes to the model's tokenizer as it is, what exceeds its context (77 tokens
    for CLIP, 64 for SigLIP, 32 for PE) is cut off, there is no prompt around it, and the output is divided by
    max(norm, 1e-12).

    Args:
        name: The image model's name in the registry, or any open_clip model ("open_clip:MODEL/TAG").
        weights: "pretrained", "random", or the path of an open_clip checkpoint with a text tower.
        seed: Of random weights.
        batch_size: Most texts in one forward pass.
        device: A torch device; None for CUDA or MPS if there is one, else the CPU.
        precision: As in `NeuralExtractor`.
        tokenize: Maps texts to tokens int64 [n, context]; None for the model's own tokenizer, which for some
            models has to be downloaded.

    Raises:
        ParameterError: The model has no text tower, or the weights or the tokenizer cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: open_clip is not installed.

    Examples:
        >>> extractor = TextExtractor("open_clip:ViT-S-32", weights="random", device="cpu")
        >>> extractor.extract(["a red mug", "a wooden chair"]).shape
        (2, 384)
    """

    device: torch.device
    precision: str
    batch_size: int

    def __init__(
        self,
        name: str,
        *,
        weights: str | StrPath = "pretrained",
        seed: int = 0,
        batch_size: int = 256,
        device: str | None = None,
        precision: Precision = "auto",
        tokenize: Callable[[list[str]], Any] | None = None,
    ) -> None:
        require("torch", "describe texts")
        self.name = name
        self.batch_size = _arrays.at_least_one("batch_size", batch_size)
        model, tag = _text_tower(name)
        self.device = device_of(device)
        self.precision, self._autocast = autocast(self.device, precision)
        self._wanted = Wanted(name, None, weights, "head", seed, False)
        self._tokenize = tokenize or tokenizer(model)
        self.module: Any = create(model, tag, self._wanted, part="text")
        if hasattr(self.module, "visual"):
            del self.module.visual  # not needed: its memory is given back
        self.module.to(self.device)

    def provenance(self) -> dict[str, object]:
        """Return what the descriptors depend on, in JSON types."""
        source = "checkpoint" if self._wanted.checkpoint is not None else str(self._wanted.weights)
        return {
            "extractor": "text-1",
            "text_model": _text_tower(self.name)[0],
            "framework": "open_clip",
            "framework_version": str(require("open_clip", "describe texts").__version__),
            "weights_source": source,
            "text_weights": state_fingerprint(self.module),
            "precision": self.precision,
        }

    def extract(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Describe texts.

        Args:
            texts: Of any length.

        Returns:
            float32 [len(texts), dim] of unit length.

        Raises:
            NonFiniteError: The model's output is NaN or infinite.
        """
        torch = require("torch", "describe texts")
        rows: list[NDArray[np.float32]] = []
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(texts), self.batch_size):
                tokens = self._tokenize(list(texts[start : start + self.batch_size]))
                rows.append(self.module.encode_text(tokens.to(self.device)).float().cpu().numpy())
        if not rows:
            return np.empty((0, 0), np.float32)
        vectors = np.concatenate(rows)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise NonFiniteError(
                f"the text tower returned NaN or an infinity for text {int(finite.argmin())}"
            )
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors


def _text_tower(name: str) -> tuple[str, str | None]:
    """Return the open_clip model and weights tag that belong to an image model."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "open_clip":
        model, _, tag = rest.partition("/")
        return model, tag or None
    if name in _MORE:
        return _MORE[name], None
    row = find_model(name)
    if not row.text_model:
        having = ", ".join(other.name for other in models(text=True)[:4])
        raise ParameterError(f"{name} has no text tower; {having} and others do (`ilias-fast models --text`)")
    return row.text_model, None if row.text_repo == "hf" else row.text_pretrained


def extract_texts(
    extractor: TextExtractor,
    texts: Sequence[tuple[str, str]],
    store: Path,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Describe texts into a store; ids that it has already are left alone.

    Args:
        extractor: What describes them.
        texts: (id, text) of each.
        store: Where the descriptors go; created, or continued if it is there.
        progress: Called with (texts done, texts in all).

    Returns:
        How many were described by this call.

    Raises:
        IncompatibleStoreError: The store was made by other settings or is of another dimension.
        DuplicateIdError: An id is given twice.
        StoreLockedError, CorruptStoreError, StorageError: The store cannot be written to.

    Examples:
        >>> from pathlib import Path
        >>> extractor = TextExtractor("open_clip:ViT-S-32", weights="random", device="cpu")
        >>> texts = [("mug/query/0.txt", "a red mug"), ("chair/query/0.txt", "a wooden chair")]
        >>> extract_texts(extractor, texts, Path("texts")), extract_texts(extractor, texts, Path("texts"))
        (2, 0)
    """
    from ilias_fast.extract.writing import checked_ids, global_writer

    names = checked_ids([name for name, _ in texts])
    dim = extractor.extract([""]).shape[1]
    done = 0
    with global_writer(extractor.provenance(), dim, store) as writer:
        held = writer.contains(names)
        todo = [pair for pair, there in zip(texts, held.tolist(), strict=True) if not there]
        for start in range(0, len(todo), extractor.batch_size):
            batch = todo[start : start + extractor.batch_size]
            writer.append([name for name, _ in batch], extractor.extract([text for _, text in batch]))
            writer.commit()
            done += len(batch)
            if progress is not None:
                progress(len(names) - len(todo) + done, len(names))
    return done
