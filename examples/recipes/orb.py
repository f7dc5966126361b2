"""ORB matching and verification with OpenCV keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilias_fast.kernels import match, verify_spatial

THRESHOLD = 4.0
"""Pixels."""


def make_data(size: int, seed: int = 0) -> dict[str, Any]:
    """Return ORB keypoints and descriptors of a drawn scene, and of `size` views, every other one of it."""
    import cv2

    rng = np.random.default_rng(seed)
    orb = cv2.ORB_create(1000)

    def scene() -> Any:
        picture = np.zeros((480, 640), np.uint8)
        for _ in range(220):
            x, y = rng.integers(0, (600, 440))
            w, h = rng.integers(8, 60, 2)
            cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), int(rng.integers(20, 255)), -1)
        return cv2.GaussianBlur(picture, (0, 0), 1)

    query = scene()
    views = []
    for number in range(size):
        turn = cv2.getRotationMatrix2D((320, 240), rng.uniform(-20, 20), rng.uniform(0.8, 1.2))
        view = cv2.warpAffine(query if number % 2 == 0 else scene(), turn, (640, 480))
        noise = rng.normal(0, 4, view.shape)
        views.append(orb.detectAndCompute(np.clip(view + noise, 0, 255).astype(np.uint8), None))
    return {"query": orb.detectAndCompute(query, None), "views": views}


# --8<-- [start:before]
def before(query: Any, views: Any) -> list[int]:
    """Count inliers with OpenCV: brute force with a cross check, then RANSAC."""
    import cv2

    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    keypoints, codes = query
    counts = []
    for others, other_codes in views:
        found = [pair for pair in matcher.match(codes, other_codes) if pair.distance <= 48]
        count = 0
        if len(found) >= 3:
            source = np.array([keypoints[pair.queryIdx].pt for pair in found], np.float32)
            target = np.array([others[pair.trainIdx].pt for pair in found], np.float32)
            _, mask = cv2.estimateAffine2D(source, target, ransacReprojThreshold=THRESHOLD)
            count = 0 if mask is None else int(mask.sum())
        counts.append(count)
    return counts


# --8<-- [end:before]


# --8<-- [start:after]
def after(query: Any, views: Any) -> list[int]:
    """Count inliers with the same keypoints and descriptors; `cv2.KeyPoint.convert` reads the positions."""
    import cv2

    keypoints, codes = query
    positions = cv2.KeyPoint.convert(keypoints)
    counts = []
    for others, other_codes in views:
        found = match(codes, other_codes, max_distance=48, mutual=True)
        target = cv2.KeyPoint.convert(others)[found.database]
        counts.append(verify_spatial(positions[found.query], target, threshold=THRESHOLD).inliers)
    return counts


# --8<-- [end:after]


def run_before(data: dict[str, Any]) -> Any:
    """Call `before`."""
    return before(data["query"], data["views"])


def run_after(data: dict[str, Any]) -> Any:
    """Call `after`."""
    return after(data["query"], data["views"])


def check(theirs: Any, ours: Any, data: dict[str, Any]) -> bool:
    """Say whether true views stand out, and we find nearly the inliers that OpenCV finds, or more."""
    del data
    true, false = np.array(ours[::2]), np.array(ours[1::2])
    return bool(true.min() > 2 * false.max(initial=0)) and bool((true >= 0.9 * np.array(theirs[::2])).all())
