"""Re-ranking the pairs of hloc: local descriptors and keypoints as its HDF5 files hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilias_fast.kernels import match, verify_spatial

THRESHOLD = 6.0
"""Pixels."""


def make_data(size: int, seed: int = 0) -> dict[str, Any]:
    """Return the features of images as hloc keeps them, and the pairs of a query with each of `size` images.

    The first quarter of the images show the query's scene: three in ten of its points, moved by a similarity.
    """
    rng = np.random.default_rng(seed)
    points = 600

    def features() -> dict[str, Any]:
        descriptors = rng.standard_normal((256, points)).astype(np.float32)
        keypoints = rng.uniform(0, 640, (points, 2)).astype(np.float32)
        return {"descriptors": descriptors / np.linalg.norm(descriptors, axis=0), "keypoints": keypoints}

    query = features()
    files = {"query.jpg": query}
    for number in range(size):
        files[f"{number}.jpg"] = image = features()
        if number < size // 4:
            seen = rng.permutation(points)[: 3 * points // 10]
            noisy = query["descriptors"][:, seen] + rng.normal(0, 0.02, (256, len(seen)))
            image["descriptors"][:, seen] = noisy / np.linalg.norm(noisy, axis=0)
            angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.6, 1.4)
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            image["keypoints"][seen] = (
                query["keypoints"][seen] @ turn.T + rng.normal(0, 1, (len(seen), 2)) + 30
            )
    return {"files": files, "pairs": [("query.jpg", f"{number}.jpg") for number in range(size)]}


# --8<-- [start:before]
def before(files: Any, pairs: Any) -> list[tuple[str, str, int]]:
    """Count inliers as hloc does: mutual nearest neighbours of floats, then RANSAC."""
    import cv2
    import torch

    scored = []
    for one, other in pairs:
        a, b = files[one], files[other]
        with torch.inference_mode():
            similarity = torch.from_numpy(a["descriptors"]).T @ torch.from_numpy(b["descriptors"])
            best, back = similarity.argmax(1), similarity.argmax(0)
            mutual = (back[best] == torch.arange(len(best))).numpy()
        source, target = a["keypoints"][mutual], b["keypoints"][best.numpy()[mutual]]
        found = 0
        if len(source) >= 4:
            _, mask = cv2.findHomography(source, target, cv2.RANSAC, THRESHOLD)
            found = 0 if mask is None else int(mask.sum())
        scored.append((one, other, found))
    return sorted(scored, key=lambda pair: -pair[2])


# --8<-- [end:before]


# --8<-- [start:after]
def after(files: Any, pairs: Any) -> list[tuple[str, str, int]]:
    """Count inliers with codes of 256 bits: the signs of the descriptors, made once an image."""
    codes = {
        name: np.packbits(file["descriptors"].T > 0, axis=1)
        for name, file in files.items()  # h5py: file["descriptors"][()]
    }
    scored = []
    for one, other in pairs:
        found = match(codes[one], codes[other], max_distance=80, mutual=True)
        source = files[one]["keypoints"][found.query]
        target = files[other]["keypoints"][found.database]
        scored.append((one, other, verify_spatial(source, target, threshold=THRESHOLD).inliers))
    return sorted(scored, key=lambda pair: -pair[2])


# --8<-- [end:after]


def run_before(data: dict[str, Any]) -> Any:
    """Call `before`."""
    return before(data["files"], data["pairs"])


def run_after(data: dict[str, Any]) -> Any:
    """Call `after`."""
    return after(data["files"], data["pairs"])


def check(theirs: Any, ours: Any, data: dict[str, Any]) -> bool:
    """Say whether both put the images of the scene first."""
    true = {f"{number}.jpg" for number in range(len(data["pairs"]) // 4)}
    return all({pair[1] for pair in ranked[: len(true)]} == true for ranked in (theirs, ours))
