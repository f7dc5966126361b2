"""Poolings and aggregations against the published examples and against plain loops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import ParameterError, ShapeError

torch = pytest.importorskip("torch", reason="pooling needs torch (extra: torch)")

from ilias_fast.extract.pooling import gap, gem, grid_of, mac, pool  # noqa: E402
from ilias_fast.extract.regions import crow, region_grid, rgem, rmac, spoc  # noqa: E402


def tokens(maps: Any) -> Any:
    return maps.flatten(2).transpose(1, 2)


def test_published_examples(examples: Path) -> None:
    cases = json.loads((examples / "e9_pooling.json").read_text())["cases"]
    assert len(cases) == 3
    for case in cases.values():
        maps = torch.tensor(case["input"], dtype=torch.float32)
        positions = tokens(maps)
        found = {
            ("ilias", "gap"): gap(positions),
            ("ilias", "mac"): mac(positions),
            ("ilias", "gem"): gem(positions, official=True),
            ("ilias", "rmac"): rmac(maps, official=True),
            ("ilias", "rgem"): rgem(maps, official=True),
            ("cirtorch", "mac"): mac(positions),
            ("cirtorch", "spoc"): spoc(maps),
            ("cirtorch", "gem_p3"): gem(positions),
            ("cirtorch", "rmac_L3"): rmac(maps),
        }
        for (code, name), value in found.items():
            np.testing.assert_allclose(
                value, case[code][name], rtol=2e-5, atol=1e-5, err_msg=f"{code} {name}"
            )
        shifted = gem(positions - 0.4, official=True)
        np.testing.assert_allclose(shifted, case["ilias_gem_on_input_minus_0.4"], rtol=2e-5, atol=1e-5)


def test_gem_of_negative_values() -> None:
    values = torch.tensor([-1, 2, 0.5, 3]).reshape(1, 4, 1)
    assert gem(values).item() == pytest.approx(1.868, abs=1e-3)
    assert gem(values, official=True).item() == pytest.approx(2.310, abs=1e-3)
    shifted = gem(values + 5)  # not negative: the plain mean of cubes
    assert shifted.item() == pytest.approx(np.mean((values.numpy() + 5) ** 3) ** (1 / 3), rel=1e-6)


def test_regions_cover_the_map() -> None:
    for height, width in [(5, 8), (9, 6), (7, 7), (1, 1), (1, 9), (30, 4), (2, 3)]:
        for official in (False, True):
            regions = region_grid(height, width, 3, official=official)
            for top, left, side in regions:
                assert side >= 1
                assert 0 <= top <= height - side
                assert 0 <= left <= width - side
        covered = np.zeros((height, width), bool)
        for top, left, side in region_grid(height, width, 3):
            covered[top : top + side, left : left + side] = True
        if max(height, width) < 3 * min(height, width):
            assert covered.all()
    assert region_grid(7, 7, 1) == [(0, 0, 7)]
    assert region_grid(7, 7, 1, official=True) == []
    with pytest.raises(ShapeError, match="0 x 3"):
        region_grid(0, 3, 2)


def test_rgem_is_a_sum_of_unit_vectors() -> None:
    maps = torch.rand(2, 5, 6, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 5)
    for top, left, height, width in [
        (0, 0, 6, 9),
        *((top, left, side, side) for top, left, side in region_grid(6, 9, 3)),
    ]:
        vector = gem(tokens(maps[:, :, top : top + height, left : left + width]))
        expected += vector / (vector.norm(dim=1, keepdim=True) + 1e-6)
    np.testing.assert_allclose(rgem(maps), expected, rtol=1e-6)
    with pytest.raises(ParameterError, match="levels"):
        rmac(maps, levels=0)


def test_centre_prior_and_crow_equal_plain_loops(rng: np.random.Generator) -> None:
    maps = np.maximum(rng.standard_normal((2, 4, 5, 7)), 0)
    prior, weighted = np.zeros((2, 4)), np.zeros((2, 4))
    for image in range(2):
        total = maps[image].sum(axis=0)
        norm = math.sqrt((total**2).sum())
        share = [(maps[image, c] != 0).mean() for c in range(4)]
        for c in range(4):
            weight = math.log((4 * 1e-6 + sum(share)) / (1e-6 + share[c]))
            for y in range(5):
                for x in range(7):
                    distance = (y - 2) ** 2 + (x - 3) ** 2
                    value = maps[image, c, y, x]
                    prior[image, c] += math.exp(-distance / (2 * (2.5 / 3) ** 2)) * value
                    weighted[image, c] += weight * math.sqrt(total[y, x] / norm) * value
    given = torch.from_numpy(maps).float()
    np.testing.assert_allclose(spoc(given, centre_prior=True), prior, rtol=1e-5)
    np.testing.assert_allclose(crow(given), weighted, rtol=1e-5)
    assert not crow(torch.zeros(1, 4, 3, 3)).isnan().any()


def test_poolings_by_name_find_the_grid() -> None:
    maps = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    for name, expected in {
        "rmac": rmac(maps),
        "rgem": rgem(maps),
        "crow": crow(maps),
        "spoc": spoc(maps),
        "spoc-centre": spoc(maps, centre_prior=True),
        "mac": mac(tokens(maps)),
    }.items():
        np.testing.assert_allclose(pool(name, tokens(maps), (4 * 14, 6 * 14)), expected, rtol=1e-6)
    assert grid_of(12 * 7, (384, 224)) == (12, 7)
    assert grid_of(7, (224, 1500)) == (1, 7)
    with pytest.raises(ParameterError, match="rmac"):
        pool("best", tokens(maps), (4, 6))
