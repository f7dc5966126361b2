"""The AMES network: images encoded once, pairs scored from their encodings.

The sequence of a pair is [mtc, query tokens, database tokens]. Self-attention joins each image with mtc,
cross-attention joins the images with each other; mtc sees all. Three facts save work and change nothing:

* What the first self-attention makes of an image's own tokens depends on that image and on the constant mtc
  alone: it is part of the encoding. mtc's own part is kept as (log-sum-exp, mean value), from which the
  softmax over any pair is put together.
* No token needs to be masked away where the two images are two blocks, each led by a copy of mtc: a block
  attends to itself or to the other, and mtc's row is computed apart, over both.
* Only mtc is read out, so the last layer's cross-attention and feed-forward part serve mtc alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.rerank.ames.operations import Linear, Norm, attend, linear, normalise, split, split_heads

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "Ames", "EncodedImage"]

DTYPES = ("float32", "bfloat16", "float16")
_EPSILON = 1e-12
_TOGETHER = {"cpu": 1}  # images that are encoded at once: the caches of a CPU hold one,
_TOGETHER_ON_GPU = 64  # and a GPU wants more
_BUCKET = 8  # database images of a batch differ in length by less than this: at most 7 padded tokens in 700


class EncodedImage(NamedTuple):
    """What of the network depends on one image alone.

    Attributes:
        tokens: [m, d], the tokens after the first self-attention and its normalisation.
        lse: [heads], log of the sum of exp(mtc . token) in the first self-attention.
        value: [d], the mean of the values under these weights; zeros without tokens.
    """

    tokens: torch.Tensor
    lse: torch.Tensor
    value: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return sum(part.numel() * part.element_size() for part in self)


class _Attention(NamedTuple):
    projection: Linear
    out: Linear


class _Layer(NamedTuple):
    own: _Attention
    other: _Attention
    first: Linear
    second: Linear
    norms: tuple[Norm, Norm, Norm]


class Ames:
    """A network with fixed weights; made by `load_ames`.

    Attributes:
        binary: Whether it takes binary descriptors (packed codes or vectors to binarise).
        local_dim: Dimension of the descriptors before binarisation.
        dim: Dimension of the model, which is the number of bits of the binary variant.
        dtype: What it computes in.
        device: Where it computes.
    """

    def __init__(
        self,
        state: Mapping[str, torch.Tensor],
        *,
        heads: int = 2,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        library = require("torch", "run AMES")
        if dtype not in DTYPES:
            raise ParameterError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
        place = device_of(device, "run AMES")
        self.dtype: torch.dtype = getattr(library, dtype)
        self.device: torch.device = place
        self._heads = heads
        self.binary = "remap_local.0.W" in state
        self.dim = len(state["mtc_token"])
        scale = (self.dim // heads) ** -0.5

        def tensor(name: str) -> torch.Tensor:
            return state[name].detach().to(place, self.dtype).contiguous()

        def layer(name: str) -> Linear:
            return Linear(tensor(f"{name}.weight"), tensor(f"{name}.bias"))

        def norm(name: str) -> Norm:
            return Norm(*layer(name))

        def attention(name: str) -> _Attention:
            # The scale of the scores goes into the queries' projection, once.
            weight, bias = (
                state[f"{name}.in_proj_{part}"].detach().float().clone() for part in ("weight", "bias")
            )
            weight[: self.dim] *= scale
            bias[: self.dim] *= scale
            projection = Linear(weight.to(place, self.dtype), bias.to(place, self.dtype))
            return _Attention(projection, layer(f"{name}.out_proj"))

        self._mtc = tensor("mtc_token")
        self._binarise = state["remap_local.0.W"].detach().float().to(place) if self.binary else None
        self._embed = layer("remap_local.1" if self.binary else "remap_local.0")
        self._embed_norm = norm("remap_local.2" if self.binary else "remap_local.1")
        self.local_dim = int(
            self._embed.weight.shape[1] if self._binarise is None else self._binarise.shape[0]
        )
        layers = sum(name.endswith(".linear1.bias") for name in state)
        self._layers = [
            _Layer(
                attention(f"{part}.self_attn"),
                attention(f"{part}.cross_attn"),
                layer(f"{part}.linear1"),
                layer(f"{part}.linear2"),
                (norm(f"{part}.norm1"), norm(f"{part}.norm2"), norm(f"{part}.norm3")),
            )
            for part in (f"decoder.layers.{number}" for number in range(layers))
        ]
        self._classifier = Linear(
            *(state[f"classifier.{p}"].detach().float().to(place) for p in ("weight", "bias"))
        )

    def __repr__(self) -> str:
        kind = "binary" if self.binary else "float"
        return f"Ames({kind}, {self.local_dim} -> {self.dim}, {len(self._layers)} layers, {self.dtype})"

    # -- one image -----------------------------------------------------------------------------------------

    def encode(self, descriptors: ArrayLike, *, database: bool = False) -> EncodedImage:
        """Encode an image's descriptors.

        Args:
            descriptors: uint8 [m, dim / 8], packed codes (binary network), or real numbers [m, local_dim] of
                any scale, which are normalised and, by a binary network, binarised. m may be 0.
            database: Whether the image is on the database side: the float network was trained with tokens
                that are rounded to float16 there.

        Raises:
            ShapeError: The dimension is not the network's.
            DtypeError: Codes for the float network, or no numbers.
            NonFiniteError: A value is NaN or infinite.
        """
        return self.encode_images([descriptors], database=database)[0]

    def encode_images(self, images: Sequence[ArrayLike], *, database: bool = False) -> list[EncodedImage]:
        """Encode the descriptors of several images; on a GPU those of as many descriptors together.

        Args:
            images: Of each what `encode` takes.
            database: As in `encode`.

        Raises:
            ShapeError, DtypeError, NonFiniteError: As `encode`.
        """
        torch = require("torch", "run AMES")
        rows = [self._rows(descriptors) for descriptors in images]
        alike: dict[tuple[int, bool], list[int]] = {}
        for image, (values, packed) in enumerate(rows):
            alike.setdefault((len(values), packed), []).append(image)
        most = _TOGETHER.get(self.device.type, _TOGETHER_ON_GPU)
        found: dict[int, EncodedImage] = {}
        with torch.inference_mode():
            for (_, packed), group in alike.items():
                for start in range(0, len(group), most):
                    part = group[start : start + most]
                    tokens = self._tokens(np.stack([rows[image][0] for image in part]), packed)
                    if database and not self.binary:
                        tokens = tokens.half().to(self.dtype)
                    found.update(zip(part, self._encoded(tokens), strict=True))
        return [found[image] for image in range(len(images))]

    def _rows(self, descriptors: ArrayLike) -> tuple[NDArray[Any], bool]:
        """Return the bits uint8 [m, dim] of packed codes, or vectors float32 [m, local_dim]; and which."""
        array = np.asarray(descriptors)
        if self.binary and array.dtype == np.uint8:
            codes = _arrays.codes("descriptors", array, "m, bytes")
            if codes.shape[1] != -(-self.dim // 8):
                raise ShapeError(
                    f"descriptors: expected codes of {self.dim} bits ({-(-self.dim // 8)} bytes), as the "
                    f"network takes, found {codes.shape[1]} bytes"
                )
            return np.unpackbits(codes, axis=1, count=self.dim), True
        rows = _arrays.float32_rows("descriptors", array, "m, d")
        if rows.shape[1] != self.local_dim:
            raise ShapeError(
                f"descriptors: expected dimension {self.local_dim}, as the network takes, "
                f"found {rows.shape[1]}"
            )
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise NonFiniteError(
                f"descriptors: expected finite numbers, found {rows[row, column]} "
                f"in row {row}, column {column}"
            )
        return rows, False

    def _tokens(self, values: NDArray[Any], packed: bool) -> torch.Tensor:
        """Embed what `_rows` returned of images of one length, [g, m, ...]."""
        torch = require("torch", "run AMES")
        there = torch.from_numpy(values).to(self.device)
        if packed:
            signs = there.to(self.dtype).mul_(2).sub_(1)
        else:
            vectors = torch.nn.functional.normalize(there, dim=-1, eps=_EPSILON)
            signs = vectors if self._binarise is None else torch.sign(vectors @ self._binarise)
            signs = signs.to(self.dtype)
        return normalise(linear(signs, self._embed), self._embed_norm)

    def _encoded(self, tokens: torch.Tensor) -> list[EncodedImage]:
        """The image-only part of the first layer, for images of as many tokens: [g, m, d]."""
        torch = require("torch", "run AMES")
        layer, heads = self._layers[0], self._heads
        block = torch.cat([self._mtc.expand(len(tokens), 1, -1), tokens], 1)
        q, k, v = linear(block, layer.own.projection).chunk(3, -1)
        found = linear(attend(q, k, v, heads), layer.own.out)
        after = normalise(block + found, layer.norms[0])[:, 1:]
        scores = (split_heads(q[:, :1], heads) @ split_heads(k[:, 1:], heads).transpose(2, 3)).float()
        mean = torch.softmax(scores, -1).to(self.dtype) @ split_heads(v[:, 1:], heads)
        parts = after, torch.logsumexp(scores, -1)[:, :, 0], mean.transpose(1, 2).flatten(1)
        # Copies: a view would keep its whole batch alive.
        return [EncodedImage(*(part.clone() for part in image)) for image in zip(*parts, strict=True)]

    # -- pairs ---------------------------------------------------------------------------------------------

    def score(
        self, query: EncodedImage, database: Sequence[EncodedImage], *, batch: int = 8
    ) -> NDArray[np.float32]:
        """Return the logit of every pair of the query with a database image.

        Args:
            query: Encoding of the query.
            database: Encodings of the database images, made with `database=True`.
            batch: Pairs at a time; bounds the memory.

        Returns:
            float32 [len(database)], the network's logits (no sigmoid).
        """
        torch = require("torch", "run AMES")
        batch = _arrays.at_least_one("batch", batch)
        scores = np.empty(len(database), np.float32)
        # Of nearly one length, so that padding costs next to nothing.
        order = sorted(range(len(database)), key=lambda i: -(-len(database[i].tokens) // _BUCKET))
        start = 0
        with torch.inference_mode():
            while start < len(order):
                longest = -(-len(database[order[start]].tokens) // _BUCKET)
                stop = start + 1
                while stop < min(len(order), start + batch) and (
                    -(-len(database[order[stop]].tokens) // _BUCKET) == longest
                ):
                    stop += 1
                rows = order[start:stop]
                scores[rows] = self._logits(query, [database[row] for row in rows]).cpu().numpy()
                start = stop
        return scores

    def _logits(self, query: EncodedImage, images: Sequence[EncodedImage]) -> torch.Tensor:
        """The logits of images of about one length, float32 [g]."""
        torch = require("torch", "run AMES")
        lengths = [len(image.tokens) for image in images]
        longest = max(lengths)
        mask = None
        if min(lengths) < longest:
            mask = (
                torch.arange(longest + 1, device=self.device)
                <= torch.tensor(lengths, device=self.device)[:, None]
            )
        mtc = self._first_mtc(query, images)[:, None]
        near = torch.cat([mtc, query.tokens.expand(len(images), -1, -1)], 1)
        far = near.new_zeros((len(images), longest + 1, self.dim))
        far[:, :1] = mtc
        for row, image in zip(far, images, strict=True):
            row[1 : 1 + len(image.tokens)] = image.tokens
        for number, layer in enumerate(self._layers):
            if number:
                near, far = self._attention(layer.own, layer.norms[0], near, far, mask, cross=False)
            if number == len(self._layers) - 1:
                return self._read_out(layer, near, far, mask)
            near, far = self._attention(layer.other, layer.norms[1], near, far, mask, cross=True)
            near, far = self._forward(layer, near), self._forward(layer, far)
        raise AssertionError("a network has a layer")

    def _first_mtc(self, query: EncodedImage, images: Sequence[EncodedImage]) -> torch.Tensor:
        """Return mtc after the first self-attention, [g, d], from what the encodings keep of it."""
        torch = require("torch", "run AMES")
        layer, heads = self._layers[0], self._heads
        q, k, v = linear(self._mtc[None], layer.own.projection)[0].chunk(3, -1)
        own = (split(q, heads) * split(k, heads)).sum(-1).float()
        number = len(images)
        lse = torch.stack(
            [
                own.expand(number, -1),
                query.lse.expand(number, -1),
                torch.stack([image.lse for image in images]),
            ]
        )
        values = torch.stack(
            [
                v.expand(number, -1),
                query.value.expand(number, -1),
                torch.stack([image.value for image in images]),
            ]
        )
        weights = torch.softmax(lse, 0).to(self.dtype)
        found = (weights[..., None] * split(values, heads)).sum(0).flatten(1)
        return normalise(self._mtc + linear(found, layer.own.out), layer.norms[0])

    def _attention(
        self,
        attention: _Attention,
        norm: Norm,
        near: torch.Tensor,
        far: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        cross: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One attention of both blocks, each led by mtc; `mask` [g, 1 + m] is False where `far` is padded."""
        torch = require("torch", "run AMES")
        heads = self._heads
        near_q, near_k, near_v = linear(near, attention.projection).chunk(3, -1)
        far_q, far_k, far_v = linear(far, attention.projection).chunk(3, -1)
        if cross:
            near_found = attend(near_q, far_k, far_v, heads, mask)
            far_found = attend(far_q, near_k, near_v, heads)
        else:
            near_found = attend(near_q, near_k, near_v, heads)
            far_found = attend(far_q, far_k, far_v, heads, mask)
        everything = None if mask is None else torch.cat([mask.new_ones(near.shape[:2]), mask[:, 1:]], 1)
        seen = attend(
            near_q[:, :1],
            torch.cat([near_k, far_k[:, 1:]], 1),
            torch.cat([near_v, far_v[:, 1:]], 1),
            heads,
            everything,
        )
        near_found[:, :1] = far_found[:, :1] = seen
        return (
            normalise(linear(near_found, attention.out).add_(near), norm),
            normalise(linear(far_found, attention.out).add_(far), norm),
        )

    def _forward(self, layer: _Layer, block: torch.Tensor) -> torch.Tensor:
        hidden = linear(block, layer.first, relu=True)
        return normalise(linear(hidden, layer.second).add_(block), layer.norms[2])

    def _read_out(
        self, layer: _Layer, near: torch.Tensor, far: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The last cross-attention and feed-forward part, of mtc alone, and the classifier."""
        torch = require("torch", "run AMES")
        dim = self.dim
        weight, bias = layer.other.projection
        mtc = near[:, :1]
        tokens = torch.cat([near, far[:, 1:]], 1)
        q = split_heads(linear(mtc, Linear(weight[:dim], bias[:dim])), self._heads)
        # q . (W_k x + b) = (W_k^T q) . x + a constant: no key has to be computed, and one mean of the values.
        keys = weight[dim : 2 * dim].reshape(self._heads, -1, dim)
        scores = ((q @ keys) @ tokens[:, None].transpose(2, 3)).float()
        if mask is not None:
            hidden = torch.cat([mask.new_zeros(near.shape[:2]), ~mask[:, 1:]], 1)
            scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
        mean = torch.softmax(scores, -1).to(self.dtype) @ tokens[:, None]
        values = weight[2 * dim :].reshape(self._heads, -1, dim)
        found = (mean @ values.transpose(1, 2)).transpose(1, 2).flatten(2) + bias[2 * dim :]
        mtc = normalise(mtc + linear(found, layer.other.out), layer.norms[1])
        final = self._forward(layer, mtc)[:, 0].float()
        return linear(final, self._classifier)[:, 0]
