from __future__ import annotations

import errno
import gzip
import hashlib
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.datasets import load_dataset
from ilias_fast.datasets.generate import CASES, GeneratedSummary, generate, layout
from ilias_fast.datasets.generate.compose import View, bounds, project, view_matrix
from ilias_fast.datasets.generate.families import FAMILIES, draw_sprite, near_duplicate, new_attributes
from ilias_fast.datasets.generate.plan import Plan, check_parameters
from ilias_fast.errors import IliasFastError, ParameterError, StorageError

cv2 = pytest.importorskip("cv2")


def hashes(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="ascii").splitlines()]


def box_of(image: Path) -> list[int]:
    (line,) = image.with_name(f"{image.stem}_bbox.txt").read_text().splitlines()
    return [int(part) for part in line.split(" ")]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GeneratedSummary]:
    root = tmp_path_factory.mktemp("demo") / "benchmark"
    return root, generate(root, images=50, seed=3)


def images_of(root: Path) -> int:
    core = len(list(root.glob("ilias_core/*/*/*.jpg")))
    shards = 0
    for path in root.glob("yfcc100m/*.tar"):
        with tarfile.open(path) as tar:
            shards += len(tar.getmembers())
    return core + shards


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, complete; copy before changing anything."""
    return generate(tmp_path_factory.mktemp("demo") / "smallest", images=10, threads=2).root


@pytest.mark.parametrize("threads", [1, 5])
def test_files_depend_on_the_parameters_only(tmp_path: Path, smallest: Path, threads: int) -> None:
    generate(tmp_path / "a", images=10, threads=threads)
    assert hashes(tmp_path / "a") == hashes(smallest)


def test_another_seed_is_another_benchmark(tmp_path: Path, smallest: Path) -> None:
    generate(tmp_path / "a", images=10, seed=1)
    pictures = {digest for name, digest in hashes(smallest).items() if name.endswith((".jpg", ".tar"))}
    assert not pictures & set(hashes(tmp_path / "a").values())


@pytest.mark.parametrize("images", [10, 11])
def test_the_smallest_benchmarks_are_whole(tmp_path: Path, images: int) -> None:
    seen: list[tuple[int, int]] = []
    summary = generate(tmp_path / "b", images=images, progress=lambda done, total: seen.append((done, total)))
    assert summary.images == images == images_of(tmp_path / "b")
    assert summary.objects == 2
    assert min(summary.image_queries, summary.positives / 2, summary.distractors / 2) >= 2
    assert seen[0] == (0, images)
    assert seen[-1] == (images, images)
    assert seen == sorted(seen)


def test_the_layout_is_the_official_one(benchmark: tuple[Path, GeneratedSummary]) -> None:
    root, summary = benchmark
    queries, positives = (rows(root / f"image_ids/{name}_ids.txt") for name in ("image_query", "positive"))
    texts = [row[0] for row in rows(root / "image_ids/text_query_ids.txt")]
    assert (len(queries), len(positives), len(texts)) == (
        summary.image_queries,
        summary.positives,
        summary.objects,
    )
    assert {len(row) for row in queries} == {2}
    assert {len(row) for row in positives} == {3}
    for ids, pattern in (
        ([row[0] for row in queries], r"([a-z]+_[a-z]+_(\d{3}))/query/Q\2_\d\d\.jpg"),
        ([row[0] for row in positives], r"([a-z]+_[a-z]+_(\d{3}))/pos/P\2_\d\d\.jpg"),
        (texts, r"([a-z]+_[a-z]+_(\d{3}))/query/T\2\.txt"),
    ):
        assert ids == sorted(set(ids))
        assert all(re.fullmatch(pattern, id_) for id_ in ids)
        assert len({id_.split("/")[0] for id_ in ids}) == summary.objects
        assert all((root / "ilias_core" / id_).is_file() for id_ in ids)
    core = {p.relative_to(root / "ilias_core").as_posix() for p in root.glob("ilias_core/*/*/*.jpg")}
    assert core == {row[0] for row in queries + positives}


def test_boxes_lie_in_the_images_and_give_the_scale(benchmark: tuple[Path, GeneratedSummary]) -> None:
    root, _ = benchmark
    for name in ("image_query", "positive"):
        for row in rows(root / f"image_ids/{name}_ids.txt"):
            path = root / "ilias_core" / row[0]
            image = cv2.imread(str(path))
            height, width = image.shape[:2]
            assert max(height, width) == 500
            x, y, w, h = box_of(path)
            assert 0 <= x < x + w <= width
            assert 0 <= y < y + h <= height
            assert float(row[1]) == pytest.approx(w * h / (width * height), abs=1e-8)
            assert 0.03 < float(row[1]) < 0.95
            assert len(row) == 2 or 0 <= int(row[2]) < 400


def test_scale_and_clutter_span_the_official_groups() -> None:
    from ilias_fast.datasets.generate.photographs import ClutterPool, cluttered_photograph

    pool = ClutterPool(5, 12)
    sprite = draw_sprite(FAMILIES[0], new_attributes(np.random.default_rng(0)))
    pictures = [cluttered_photograph(np.random.default_rng(i), pool, sprite) for i in range(60)]
    for bounds_, values in (
        ((0.0688, 0.1353, 0.273), [p.scale for p in pictures]),
        ((18, 33, 53), [p.clutter for p in pictures]),
    ):
        counts = np.bincount(np.searchsorted(bounds_, values, side="right"), minlength=4)
        assert counts.min() >= 3, (bounds_, counts)
    assert max(p.scale for p in pictures) > 0.6


def test_every_instance_has_one_category_and_one_description(
    benchmark: tuple[Path, GeneratedSummary],
) -> None:
    root, summary = benchmark
    taxonomy = json.loads((root / "taxonomy.json").read_text())
    named = [
        name
        for mids in taxonomy.values()
        for fines in mids.values()
        for names in fines.values()
        for name in names
    ]
    instances = [path.name for path in (root / "ilias_core").iterdir()]
    assert sorted(named) == sorted(instances)
    assert len(taxonomy) > 3
    texts = {path.read_text() for path in root.glob("ilias_core/*/query/T*.txt")}
    assert len(texts) == summary.objects
    assert all(re.fullmatch(r"An? [^\n]{40,}\.\n", text) for text in texts)


def test_distractors_are_webdataset_tars(benchmark: tuple[Path, GeneratedSummary]) -> None:
    root, summary = benchmark
    with gzip.open(root / "image_ids/distractor_ids.txt.gz", "rt") as file:
        listed = [line.strip() for line in file]
    found = []
    for path in root.glob("yfcc100m/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                data = tar.extractfile(member)
                assert data is not None
                assert cv2.imdecode(np.frombuffer(data.read(), np.uint8), cv2.IMREAD_COLOR) is not None
                found.append(f"{path.name}/{member.name.removesuffix('.jpg')}")
    assert listed == sorted(found) == sorted(set(found))
    assert len(found) == summary.distractors
    assert summary.near_duplicates == round(0.15 * summary.distractors)


def test_checksums_cover_every_image(benchmark: tuple[Path, GeneratedSummary]) -> None:
    root, _ = benchmark
    listed = dict(reversed(line.split("  ")) for line in (root / "checksums.txt").read_text().splitlines())
    real = hashes(root)
    own = {"checksums.txt", "ilias_demo.json", "taxonomy.json"}
    assert listed == {name: digest for name, digest in real.items() if name not in own}


def test_a_complete_benchmark_is_reused_and_a_damaged_one_completed(tmp_path: Path, smallest: Path) -> None:
    root = Path(shutil.copytree(smallest, tmp_path / "b"))
    before, times = hashes(root), {p: p.stat().st_mtime_ns for p in root.rglob("*.*")}
    assert generate(root, images=10).reused
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.*")} == times
    next(root.glob("yfcc100m/*.tar")).unlink()
    assert not generate(root, images=10).reused
    assert hashes(root) == before
    next(root.glob("ilias_core/*/pos/*_bbox.txt")).unlink()
    assert not generate(root, images=10).reused
    assert hashes(root) == before


@pytest.mark.parametrize("stop_at", [2, 8])
def test_an_interrupted_run_is_completed(tmp_path: Path, smallest: Path, stop_at: int) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "a", images=10, progress=interrupt)
    assert json.loads((tmp_path / "a/ilias_demo.json").read_text())["complete"] is False
    generate(tmp_path / "a", images=10)
    assert hashes(tmp_path / "a") == hashes(smallest)


def test_half_a_benchmark_of_other_library_versions_is_started_again(tmp_path: Path, smallest: Path) -> None:
    shutil.copytree(smallest, tmp_path / "b")
    before = hashes(tmp_path / "b")
    marker = tmp_path / "b/ilias_demo.json"
    there = json.loads(marker.read_text())
    marker.write_text(json.dumps({**there, "libraries": {"opencv": "0.1"}, "complete": False}))
    stale = next((tmp_path / "b").glob("yfcc100m/*.tar"))
    stale.write_bytes(b"of another version")
    next((tmp_path / "b").glob("ilias_core/*/pos/*.jpg")).unlink()
    generate(tmp_path / "b", images=10)
    assert hashes(tmp_path / "b") == before


def test_other_parameters_are_refused_unless_overwritten(tmp_path: Path, smallest: Path) -> None:
    shutil.copytree(smallest, tmp_path / "b")
    before = hashes(tmp_path / "b")
    with pytest.raises(ParameterError, match=r"images 10 instead of 11"):
        generate(tmp_path / "b", images=11)
    assert hashes(tmp_path / "b") == before
    assert generate(tmp_path / "b", images=11, overwrite=True).images == 11
    assert images_of(tmp_path / "b") == 11
    generate(tmp_path / "c", images=11)
    assert hashes(tmp_path / "b") == hashes(tmp_path / "c")


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ParameterError, match=r"letters\.txt"):
        generate(tmp_path, images=10, overwrite=overwrite)
    with pytest.raises(ParameterError, match="found a file"):
        generate(tmp_path / "letters.txt", images=10, overwrite=overwrite)
    assert hashes(tmp_path) == {"letters.txt": hashlib.sha256(b"dear").hexdigest()}
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "ilias_demo.json").write_text("{")
    with pytest.raises(ParameterError, match="damaged"):
        generate(damaged, images=10, overwrite=overwrite)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 9}, "images: expected an integer from 10 to 100,000, found 9"),
        ({"images": 100_001}, "images: expected an integer from 10 to 100,000"),
        ({"images": 12.5}, "images: expected an integer, found 12.5"),
        ({"images": True}, "images"),
        ({"objects": 0}, "objects"),
        ({"objects": 25_001}, "objects"),
        ({"objects": 10, "images": 39}, "at least 40 images"),
        ({"images": 10, "seed": -1}, "seed"),
        ({"images": 10, "seed": "a"}, "seed"),
        ({"images": 10, "threads": 0}, "threads"),
        ({"images": 10, "threads": 1.5}, "threads"),
        ({"images": 10, "near_duplicates": 1.1}, "near_duplicates"),
        ({"images": 10, "near_duplicates": float("nan")}, "near_duplicates"),
        ({"images": 10, "near_duplicates": "many"}, "near_duplicates"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        generate(tmp_path / "b", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_a_full_disk_is_reported_and_survived(
    tmp_path: Path, smallest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = layout.write_whole, []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(layout, "write_whole", full)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            generate(tmp_path / "b", images=10)
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, IliasFastError)
    generate(tmp_path / "b", images=10)
    assert hashes(tmp_path / "b") == hashes(smallest)


@pytest.mark.parametrize(
    ("objects", "images", "expected"),
    [
        (None, None, (40, 1000)),
        (40, None, (40, 1000)),
        (None, 100_000, (1000, 100_000)),
        (2500, 10_000, (2500, 10_000)),
        (1, None, (1, 25)),
    ],
)
def test_plans_add_up(objects: int | None, images: int | None, expected: tuple[int, int]) -> None:
    parameters = check_parameters(objects, images, 0, 0.15)
    assert (parameters.objects, parameters.images) == expected
    plan = Plan(parameters, len(FAMILIES))
    core = sum(o.queries + o.positives for o in plan.objects)
    assert core + plan.distractors == parameters.images
    assert plan.distractors >= 1
    assert {o.queries for o in plan.objects} <= {1, 2}
    assert all(2 <= o.positives <= 8 for o in plan.objects)
    members = [number for shard in range(plan.shards) for number in plan.shard_members(shard)]
    assert members == list(range(plan.distractors))
    twins = [plan.twin_of(number) for number in members]
    assert sum(twin is not None for twin in twins) == plan.near_duplicates == round(0.15 * plan.distractors)
    names = [o.name for o in plan.objects]
    assert len(set(names)) == len(names)
    digits = max(3, len(str(len(names) - 1)))
    assert all(re.fullmatch(rf"[a-z]+_[a-z]+_\d{{{digits}}}", name) for name in names)
    assert not any("pos" in name or "quer" in name for name in names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_objects_are_distinct_and_rich_in_keypoints(family, rng) -> None:  # type: ignore[no-untyped-def]
    sift = cv2.SIFT_create()

    def features(attributes):  # type: ignore[no-untyped-def]
        level = draw_sprite(family, attributes).levels[0]
        padded = cv2.copyMakeBorder(level[..., :3], 20, 20, 20, 20, cv2.BORDER_CONSTANT)
        return sift.detectAndCompute(cv2.cvtColor(padded, cv2.COLOR_RGB2GRAY), None)[1]

    def shared(first, second) -> int:  # type: ignore[no-untyped-def]
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first, second, k=2)
        return sum(best.distance < 0.7 * other.distance for best, other in pairs)

    original, other = new_attributes(rng), new_attributes(rng)
    own = features(original)
    assert len(own) >= 100
    assert np.array_equal(own, features(original))
    twin = near_duplicate(family, original, rng)
    assert twin != original
    assert shared(own, features(other)) < 0.5 * len(own)
    assert shared(own, features(twin)) < 0.97 * len(own)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_near_duplicates_look_alike_but_never_the_same(family, rng) -> None:  # type: ignore[no-untyped-def]
    for _ in range(6):
        original = new_attributes(rng)
        twin = near_duplicate(family, original, rng)
        pictures = [draw_sprite(family, a, longest=128).levels[0].astype(np.int64) for a in (original, twin)]
        if pictures[0].shape == pictures[1].shape:
            changed = (np.abs(pictures[0] - pictures[1]).max(axis=2) > 24).mean()
            assert changed > 0.004, (original, twin)


def test_a_view_keeps_the_middle_and_scales(rng: np.random.Generator) -> None:
    sprite = draw_sprite(FAMILIES[3], new_attributes(rng))
    middle = np.array([sprite.size], np.float64) / 2
    matrix = view_matrix(sprite, View(0.7, 0.2, -0.3), (123.0, 45.0), 0.5)
    np.testing.assert_allclose(project(matrix, middle), [[123.0, 45.0]], atol=1e-9)
    flat = view_matrix(sprite, View(0.0), (0.0, 0.0), 0.5)
    x0, y0, x1, y1 = bounds(project(flat, sprite.outline))
    whole = bounds(sprite.outline)
    assert (x1 - x0, y1 - y0) == pytest.approx(((whole[2] - whole[0]) / 2, (whole[3] - whole[1]) / 2))


@pytest.mark.parametrize("case", list(CASES))
def test_hard_cases_are_benchmarks_of_their_own(tmp_path: Path, smallest: Path, case: str) -> None:
    summary = generate(tmp_path / "a", images=10, hard=[case], threads=2)
    assert summary.images == 10 == images_of(tmp_path / "a")
    assert CASES[case].about
    ordinary, hard = hashes(smallest), hashes(tmp_path / "a")
    assert set(ordinary) == set(hard)
    changed = [name for name in hard if name.endswith((".jpg", ".tar")) and hard[name] != ordinary[name]]
    assert changed if case == "near-duplicates" else len(changed) > 6
    dataset = load_dataset(tmp_path / "a")
    for positive in dataset.positives:
        path = tmp_path / "a" / "ilias_core" / positive
        height, width = cv2.imread(str(path)).shape[:2]
        assert max(width, height) == CASES[case].longer_side
        boxes = path.with_name(f"{path.stem}_bbox.txt").read_text().split()
        x, y, w, h = map(int, boxes[:4])
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
    with pytest.raises(ParameterError, match=f"holds a benchmark of other parameters .*hard {case} instead"):
        generate(tmp_path / "a", images=10)


def test_unknown_hard_cases(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"hard: expected some of low-texture, .*, found 'easy'"):
        generate(tmp_path / "a", images=10, hard=["easy"])
