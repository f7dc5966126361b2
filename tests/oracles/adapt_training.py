"""The published training of the linear adaptation layer: autograd, one-hot targets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, linear, normalize


class Published:
    """Layer, classifier and Adam as the published script has them."""

    def __init__(
        self,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        classifier: NDArray[np.float32],
        device: str = "cpu",
    ) -> None:
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        self.classifier = torch.nn.Linear(weight.shape[0], classifier.shape[0], bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(weight))
            self.layer.bias.copy_(torch.from_numpy(bias))
            self.classifier.weight.copy_(torch.from_numpy(classifier))
        self.layer.to(device)
        self.classifier.to(device)
        parameters = [*self.layer.parameters(), *self.classifier.parameters()]
        self.adam = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-6)

    def step(self, x: torch.Tensor, y: torch.Tensor, *, scale: float = 16.0, margin: float = 0.0) -> float:
        """Return the loss before the step."""
        z = normalize(normalize(self.layer(x)))
        cosine = linear(z, normalize(self.classifier.weight))
        one_hot = torch.zeros_like(cosine)
        one_hot.scatter_(1, y.view(-1, 1), 1)
        logits = scale * (one_hot * (cosine - margin) + (1.0 - one_hot) * cosine)
        loss = cross_entropy(logits, y)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return loss.item()
