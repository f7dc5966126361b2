"""The normalised softmax over many classes: loss, gradient and Adam's step in one, class by class.

With unit vectors z of a batch of B, classifier rows w_j of length n_j and scale s, the loss is the mean of
log(sum_j e_j) + s - s c_y, where c_j = z . w_j / n_j and e_j = exp(s c_j - s), which is at most 1: cosines
are bounded, so no maximum has to be found first. With p_j = (s / B) (e_j / sum - [j = y]) the gradients are

    dz = sum_j (p_j / n_j) w_j,    dw_j = sum_batch (p_j / n_j) z - w_j sum_batch (p_j c_j) / n_j^2.

Nothing of the size batch x classes is made but c and e, there are no one-hot targets, and no gradient of the
size of the classifier: classes are taken a shard at a time, whose gradient goes into Adam while it is in the
cache. All tensors are torch's; nothing here records a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ilias_fast._extras import require
from ilias_fast.adapt.products import product_on

if TYPE_CHECKING:
    import torch

__all__ = ["SCALE", "Adam", "SampledSoftmax", "Softmax"]

SCALE = 16.0


class Adam:
    """Adam with coupled weight decay, betas 0.9 and 0.999, epsilon 1e-8.

    Args:
        rate: Learning rate.
        decay: Weight decay.
    """

    def __init__(self, rate: float, decay: float) -> None:
        torch = require("torch", "train adaptation layers")
        self._torch, self._rate, self._decay = torch, rate, decay
        self._fused = True
        try:  # since torch 2.4 on the CPU
            self.step(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.zeros(1), 0)
        except RuntimeError:
            self._fused = False

    def step(
        self,
        values: torch.Tensor,
        gradient: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        done: int,
    ) -> None:
        """Change values and their two moments in place.

        Args:
            values: What is learnt.
            gradient: Of the loss.
            first: Running mean of the gradient.
            second: Running mean of its square.
            done: Steps taken before.
        """
        from torch.optim.adam import adam

        count = self._torch.tensor(float(done), device=values.device if self._fused else None)
        adam(
            [values],
            [gradient],
            [first],
            [second],
            [],
            [count],
            foreach=False,
            fused=self._fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._rate,
            weight_decay=self._decay,
            eps=1e-8,
            maximize=False,
        )


class Softmax:
    """The softmax over all classes, in shards.

    Args:
        adam: Takes the steps.
        state: `weight` [classes, D] and its moments `first` and `second`; changed in place.
        shard: Classes in a shard.
    """

    def __init__(self, adam: Adam, state: dict[str, torch.Tensor], shard: int) -> None:
        self._torch = require("torch", "train adaptation layers")
        self._adam, self._state, self._shard = adam, state, shard
        self._product = product_on(state["weight"].device)

    def step(self, z: torch.Tensor, y: torch.Tensor, done: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from a batch.

        Args:
            z: float32 [B, D] of unit length.
            y: int64 [B], the classes.
            done: Steps taken before.

        Returns:
            The loss before the step, and its gradient with respect to z.
        """
        torch, weight = self._torch, self._state["weight"]
        count = len(z)
        shards = [
            slice(start, min(start + self._shard, len(weight)))
            for start in range(0, len(weight), self._shard)
        ]
        total = torch.zeros(count, device=z.device)
        held = []
        for shard in shards:
            inverse = torch.linalg.vector_norm(weight[shard], dim=1).clamp_(min=1e-12).reciprocal_()
            cosine = self._product(z, weight[shard]).mul_(inverse)
            power = torch.mul(cosine, SCALE).sub_(SCALE).exp_()
            total += power.sum(1)
            held.append((shard, cosine, power, inverse))
        target = weight[y]
        right = (target * z).sum(1) / torch.linalg.vector_norm(target, dim=1).clamp_(min=1e-12)
        loss = (total.log() + SCALE - SCALE * right).mean()
        share = (SCALE / count / total)[:, None]
        dz, everyone = torch.zeros_like(z), torch.arange(count, device=z.device)
        for shard, cosine, power, inverse in held:
            probability = power.mul_(share)
            # Of one shard all, which spares a GPU the wait for a count.
            batch = everyone if len(held) == 1 else everyone[(y >= shard.start) & (y < shard.stop)]
            probability[batch, y[batch] - shard.start] -= SCALE / count
            along = cosine.mul_(probability).sum(0).mul_(inverse).mul_(inverse)
            probability.mul_(inverse)
            dz += self._product(probability, weight[shard].T)
            gradient = self._product(probability.T, z.T)
            gradient.addcmul_(weight[shard], along[:, None], value=-1)
            self._adam.step(
                weight[shard], gradient, self._state["first"][shard], self._state["second"][shard], done
            )
        return loss, dz


class SampledSoftmax:
    """An approximation: the classes of the batch and a fresh uniform draw of the others.

    The terms of drawn classes are weighted by (others / drawn), so that the sum over classes is right on
    average; rows that are not drawn are left alone, moments too (lazy Adam).

    Args:
        adam: Takes the steps.
        state: As in `Softmax`.
        sampled: Classes in each step, those of the batch included.
        seed: Of the draws; a step's draw depends on it and on the number of the step only.
    """

    def __init__(self, adam: Adam, state: dict[str, torch.Tensor], sampled: int, seed: int) -> None:
        self._torch = require("torch", "train adaptation layers")
        self._adam, self._state, self._sampled, self._seed = adam, state, sampled, seed

    def step(self, z: torch.Tensor, y: torch.Tensor, done: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from a batch; as `Softmax.step`.

        Args:
            z: float32 [B, D] of unit length.
            y: int64 [B], the classes.
            done: Steps taken before.
        """
        torch, weight = self._torch, self._state["weight"]
        own = np.unique(y.cpu().numpy())
        classes = len(weight)
        drawn = np.random.default_rng([self._seed, 2, done]).integers(0, classes, self._sampled - len(own))
        others = np.setdiff1d(drawn, own)
        chosen = torch.from_numpy(np.concatenate([own, others])).to(z.device)
        local = torch.from_numpy(np.searchsorted(own, y.cpu().numpy())).to(z.device)
        rows = {name: tensor[chosen] for name, tensor in self._state.items()}
        inverse = torch.linalg.vector_norm(rows["weight"], dim=1).clamp_(min=1e-12).reciprocal_()
        cosine = (z @ rows["weight"].T).mul_(inverse)
        power = cosine.mul(SCALE).sub_(SCALE).exp_()
        power[:, len(own) :] *= (classes - len(own)) / max(1, len(others))
        total = power.sum(1)
        batch = torch.arange(len(z), device=z.device)
        loss = (total.log() + SCALE - SCALE * cosine[batch, local]).mean()
        probability = power.mul_((SCALE / len(z) / total)[:, None])
        probability[batch, local] -= SCALE / len(z)
        along = (probability * cosine).sum(0).mul_(inverse).mul_(inverse)
        probability.mul_(inverse)
        dz = probability @ rows["weight"]
        gradient = (probability.T @ z).addcmul_(rows["weight"], along[:, None], value=-1)
        self._adam.step(rows["weight"], gradient, rows["first"], rows["second"], done)
        for name, tensor in self._state.items():
            tensor[chosen] = rows[name]
        return loss, dz
