"""The other benchmarks:

official ground-truth files, and their protocols against plain loops and official values.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.datasets import (
    GroundTruth,
    Labels,
    load_gldv2,
    load_gnd,
    load_holidays,
    load_names,
    load_oxford_text,
    load_sop,
    load_truth,
    load_ukbench,
)
from ilias_fast.errors import (
    DatasetError,
    DuplicateIdError,
    FileFormatError,
    ParameterError,
    ShapeError,
    StorageError,
)
from ilias_fast.evaluate import (
    evaluate_benchmark,
    mean_average_precision,
    ns_score,
    recall_at,
    revisited,
    run_from_ranks,
    unanswered,
)
from ilias_fast.run import Run
from tests.command_line import command, done, failing


def write_gnd(path: Path, gnd: list[dict[str, Any]], images: int) -> Path:
    content = {
        "imlist": [f"image_{row}" for row in range(images)],
        "qimlist": [f"query_{row}" for row in range(len(gnd))],
        "gnd": gnd,
    }
    path.write_bytes(pickle.dumps(content))
    return path


def test_revisited_equals_the_official_values(examples: Path, tmp_path: Path) -> None:
    example = json.loads((examples / "e6_revisitop.json").read_text())
    truth = load_gnd(write_gnd(tmp_path / "gnd_roxford5k.pkl", example["gnd"], 8))
    assert (truth.name, truth.queries[0].box) == ("roxford5k", (0, 0, 10, 10))
    run = run_from_ranks(truth, example["ranks_db_by_query"])
    found = revisited(run, truth, kappas=example["kappas"])
    for mode, expected in example["expected"].items():
        scores = found[mode]
        assert scores.map == pytest.approx(expected["map"], abs=1e-12)
        for ap, value in zip(scores.aps, expected["aps"], strict=True):
            assert np.isnan(ap) if value is None else ap == pytest.approx(value, abs=1e-12)
        assert scores.mp == pytest.approx(expected["mp"], abs=1e-12)
    table = evaluate_benchmark(run, truth)
    assert table["mAP M"] == found["M"].map
    assert table["mP@10 H"] == found["H"].mp[2]


def test_gldv2_equals_the_official_value(examples: Path, tmp_path: Path) -> None:
    example = json.loads((examples / "e7_gldv2_map100.json").read_text())
    path = tmp_path / "gnd_gldv2-test.pkl"
    path.write_bytes(pickle.dumps({"gnd": example["gnd"]}))
    truth = load_gldv2(path, private=1)
    run = run_from_ranks(truth, example["ranks_top100_by_query"])
    expected = example["expected"]
    found = mean_average_precision(run, truth, k=100)
    assert found.map == pytest.approx(expected["map"], abs=1e-12)
    for ap, value in zip(found.aps, expected["aps"], strict=True):
        assert np.isnan(ap) if value is None else ap == pytest.approx(value, abs=1e-12)
    assert evaluate_benchmark(run, truth) == {"mAP@100": found.map}
    assert len(truth.public().queries) == len(truth.queries) - 1


def test_spellings_and_distractors() -> None:
    labels = Labels("q", {"easy": frozenset({"a"}), "hard": frozenset({"b"})}, frozenset({"j"}))
    truth = GroundTruth("r", (labels,), ("a", "b", "j"))
    run = Run.from_dict({"jpg/q.jpg": {"jpg/j.jpg": 5, "revisitop1m/9/x.jpg": 4, "jpg/a.jpg": 3, "b": 2}})
    found = revisited(run, truth)
    assert found["E"].aps.tolist() == [(0 + 1 / 2) / 2]
    assert found["M"].aps.tolist() == [((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2]
    twice = Run.from_dict({"q": {"a": 2, "jpg/a.jpg": 1}})
    with pytest.raises(DuplicateIdError, match="two spellings"):
        revisited(twice, truth)
    missing = revisited(Run.from_dict({}), truth)["M"]
    assert missing.aps.tolist() == [0.0]
    assert missing.mp == (0.0, 0.0, 0.0)


def test_classic_oxford(tmp_path: Path) -> None:
    for kind, names in {"good": "a\nb\n", "ok": "c\n", "junk": "j\n"}.items():
        (tmp_path / f"souls_1_{kind}.txt").write_text(names)
    (tmp_path / "souls_1_query.txt").write_text("oxc1_souls_000013 136.5 34.1 648.5 955.7\n")
    truth = load_oxford_text(tmp_path)
    assert truth.queries[0].relevant == {"a", "b", "c"}
    assert truth.queries[0].box == (136.5, 34.1, 648.5, 955.7)
    run = Run.from_dict({"souls_1": {"a": 5, "j": 4, "b": 3, "x": 2, "c": 1}})
    expected = (1 + 1 + (2 / 3 + 3 / 4) / 2) / 3
    assert evaluate_benchmark(run, truth)["mAP ok"] == pytest.approx(expected)
    (tmp_path / "souls_1_query.txt").write_text("oxc1_souls\n")
    with pytest.raises(FileFormatError, match="expected 'image x1 y1 x2 y2'"):
        load_oxford_text(tmp_path)


def test_products(tmp_path: Path) -> None:
    (tmp_path / "Ebay_test.txt").write_text(
        "image_id class_id super_class_id path\n1 1 1 a/1.JPG\n2 1 1 a/2.JPG\n3 2 1 b/3.JPG\n4 2 1 b/4.JPG\n"
    )
    truth = load_sop(tmp_path / "Ebay_test.txt")
    run = Run.from_dict(
        {
            "a/1.JPG": {"a/1.JPG": 9, "b/3.JPG": 8, "a/2.JPG": 7},
            "a/2.JPG": {"a/1.JPG": 9, "a/2.JPG": 8},
            "b/3.JPG": {"b/4.JPG": 1},
            "b/4.JPG": {"b/4.JPG": 3, "a/1.JPG": 2},
        }
    )
    assert recall_at(run, truth, [1, 2]) == {1: 0.5, 2: 0.75}
    assert mean_average_precision(run, truth, k=1000).aps.tolist() == [0.5, 1, 1, 0]
    assert evaluate_benchmark(run, truth)["Recall@1000"] == 0.75
    (tmp_path / "Ebay_test.txt").write_text("1 1 a/1.JPG\n")
    with pytest.raises(FileFormatError, match=r"Ebay_test\.txt:1: expected"):
        load_sop(tmp_path / "Ebay_test.txt")


def test_ukbench_and_holidays() -> None:
    names = [f"ukbench{row:05d}.jpg" for row in range(8)]
    truth = load_ukbench(names)
    run = Run.from_dict(
        {name: {other: -abs(i - j) for j, other in enumerate(names)} for i, name in enumerate(names)}
    )
    expected = np.mean(
        [
            sum(names.index(other) // 4 == i // 4 for other in run[name].ids[:4])
            for i, name in enumerate(names)
        ]
    )
    assert ns_score(run, truth) == expected
    assert evaluate_benchmark(run, truth) == {"N-S": expected}
    holidays = load_holidays(["100000.jpg", "100001.jpg", "100002.jpg", "100100.jpg", "100101.jpg"])
    assert [labels.query for labels in holidays.queries] == ["100000.jpg", "100100.jpg"]
    found = Run.from_dict(
        {"100000.jpg": {"100000.jpg": 9, "100001.jpg": 8, "100100.jpg": 7, "100002.jpg": 6}, "100100.jpg": {}}
    )
    expected = (1 + (1 / 2 + 2 / 3) / 2) / 2 / 2
    assert evaluate_benchmark(found, holidays)["mAP"] == pytest.approx(expected)
    with pytest.raises(DatasetError, match="expected a name that ends in a number"):
        load_ukbench(["x.jpg"])


def test_gldv2_csv_and_names(tmp_path: Path) -> None:
    (tmp_path / "retrieval.csv").write_text("id,images,Usage\nq1,a b,Public\nq2,None,Private\nq3,c,Ignored\n")
    truth = load_gldv2(tmp_path / "retrieval.csv")
    assert [(labels.query, sorted(labels.relevant), labels.public) for labels in truth.queries] == [
        ("q1", ["a", "b"], True),
        ("q2", [], False),
    ]
    assert mean_average_precision(Run.from_dict({"q1": {"b": 1.0}}), truth, k=100).map == 0.5
    (tmp_path / "revisitop1m.txt").write_text("1/a.jpg\n\n2/b.jpg\n")
    assert load_names(tmp_path / "revisitop1m.txt") == ("1/a.jpg", "2/b.jpg")
    (tmp_path / "retrieval.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="expected the columns"):
        load_gldv2(tmp_path / "retrieval.csv")


@pytest.mark.parametrize(
    ("gnd", "message"),
    [
        ([{"easy": [9], "hard": [], "junk": []}], "easy: expected indices below 3, found 9"),
        ([{"easy": [-1], "hard": [], "junk": []}], "expected indices below 3, found -1"),
        ([{"easy": [0, 0], "hard": [], "junk": []}], "easy: an image is listed twice"),
        ([{"easy": 3, "hard": [], "junk": []}], "easy: expected a list of indices"),
        ([{"junk": []}], "expected 'easy', 'hard', 'junk', or 'ok'"),
        ([{"ok": [1], "bbx": [1, 2]}], "bbx: expected"),
        ([3], "expected 'easy'"),
    ],
)
def test_malformed_ground_truth(gnd: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=message):
        load_gnd(write_gnd(tmp_path / "gnd_x.pkl", gnd, 3))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("owned",)


def test_ground_truth_is_never_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gnd_evil.pkl"
    path.write_bytes(pickle.dumps({"gnd": [Evil()], "imlist": [], "qimlist": ["q"]}))
    for load in (load_gnd, load_gldv2):
        with pytest.raises(FileFormatError, match="refused"):
            load(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(FileFormatError, match="expected a dictionary"):
        load_gnd(path)


def test_arrays_in_ground_truth_are_read(tmp_path: Path) -> None:
    gnd = [{"ok": np.array([2, 0]), "junk": np.array([], np.int64), "bbx": np.array([1.0, 2, 3, 4])}]
    truth = load_gnd(write_gnd(tmp_path / "gnd_instre.pkl", gnd, 3))
    assert truth.queries[0].relevant == {"image_0", "image_2"}
    assert truth.queries[0].box == (1, 2, 3, 4)


def test_ranks_of_the_wrong_shape(tmp_path: Path) -> None:
    truth = load_gnd(write_gnd(tmp_path / "gnd_x.pkl", [{"ok": [0]}], 3))
    with pytest.raises(ShapeError, match="a column a query"):
        run_from_ranks(truth, [[0, 1]])
    with pytest.raises(ParameterError):
        run_from_ranks(truth, [[3]])
    with pytest.raises(DuplicateIdError):
        run_from_ranks(truth, [[0], [0]])
    with pytest.raises(DatasetError, match="no queries"):
        GroundTruth("x", ())
    with pytest.raises(DatasetError, match="'q' is listed twice"):
        GroundTruth("x", (Labels("q", {}), Labels("q", {})))
    with pytest.raises(ParameterError, match="expected labels"):
        revisited(Run.from_dict({}), GroundTruth("x", (Labels("q", {"easy": frozenset()}),)))


def write_mat(path: Path, **changes: Any) -> Path:
    """Write a file like INSTRE's: cells of names, a structure array with indices from 1."""
    savemat = pytest.importorskip("scipy.io", reason="needs the extra [mat]").savemat
    entries = np.zeros((1, 2), dtype=[("ok", object), ("bbx", object)])
    entries[0, 0] = (np.array([[2.0, 3.0]]), np.array([[10.0, 20.0, 110.0, 220.0]]))
    entries[0, 1] = (np.array([[1]], np.uint16), np.array([[0.0, 0.0, 5.0, 5.0]]))
    content = {
        "imlist": np.array([["a01/1.jpg"], ["b02/22.jpg"], ["c/3.jpg"]], dtype=object),
        "qimlist": np.array([["q1.jpg"], ["q2.jpg"]], dtype=object),
        "gnd": entries,
    }
    savemat(path, {**content, **changes}, do_compression=True)
    return path


def test_instre_in_a_matlab_file(tmp_path: Path) -> None:
    truth = load_gnd(write_mat(tmp_path / "gnd_instre.mat"))
    assert (truth.name, truth.database) == ("instre", ("a01/1.jpg", "b02/22.jpg", "c/3.jpg"))
    first, second = truth.queries
    assert (first.query, first.relevant, first.box) == (
        "q1.jpg",
        {"b02/22.jpg", "c/3.jpg"},
        (10, 20, 110, 220),
    )
    assert (second.query, second.relevant) == ("q2.jpg", {"a01/1.jpg"})
    run = Run.from_dict(
        {"q1.jpg": {"a01/1.jpg": 3.0, "b02/22.jpg": 2.0, "c/3.jpg": 1.0}, "q2.jpg": {"a01/1.jpg": 1.0}}
    )
    assert mean_average_precision(run, truth, k=1000).map == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)


def test_a_matlab_file_of_one_query(tmp_path: Path) -> None:
    """MATLAB's readers hand a cell of one element over without its cell."""
    entry = np.zeros((1, 1), dtype=[("ok", object), ("junk", object)])
    entry[0, 0] = (np.array([[1, 2]]), np.zeros((0, 0)))
    path = write_mat(tmp_path / "one.mat", qimlist=np.array([["q"]], dtype=object), gnd=entry)
    (labels,) = load_gnd(path).queries
    assert (labels.query, labels.relevant, labels.junk) == ("q", {"a01/1.jpg", "b02/22.jpg"}, frozenset())


def gnd_of(ok: Any) -> np.ndarray:
    entries = np.zeros((1, 2), dtype=[("ok", object)])
    entries[0, 0], entries[0, 1] = (ok,), (np.array([[1]]),)
    return entries


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imlist": np.arange(3.0)}, "imlist: expected a cell array"),
        ({"gnd": np.arange(3.0)}, "gnd: expected a structure array"),
        ({"gnd": gnd_of(np.array([[0]]))}, r"gnd\(1\)\.ok: expected whole numbers from 1"),
        ({"gnd": gnd_of(np.array([[1.5]]))}, r"gnd\(1\)\.ok: expected whole numbers"),
        ({"gnd": gnd_of(np.array([[np.nan]]))}, r"gnd\(1\)\.ok: expected whole numbers"),
        ({"gnd": gnd_of("words")}, r"gnd\(1\)\.ok: expected whole numbers"),
        ({"gnd": gnd_of(np.array([[4]]))}, r"ok: expected indices below 3, found 3"),
        ({"gnd": gnd_of(np.array([[2, 2]]))}, "an image is listed twice"),
    ],
)
def test_bad_matlab_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        load_gnd(write_mat(tmp_path / "bad.mat", **changes))


def test_damaged_matlab_files(tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "whole.mat").read_bytes()
    path = tmp_path / "damaged.mat"
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        data = bytearray(whole[: int(rng.integers(0, len(whole)))] if trial % 2 else whole)
        for at in rng.integers(0, max(len(data), 1), 6):
            data[at : at + 1] = bytes([int(rng.integers(0, 256))])
        path.write_bytes(data)
        try:
            load_gnd(path)
        except (FileFormatError, DatasetError):
            refused += 1
    assert refused > 50
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(FileFormatError, match="save it with -v7"):
        load_gnd(path)


kinds_of_images = st.lists(st.sampled_from(["easy", "hard", "junk", "other"]), min_size=1, max_size=12)


@given(kinds_of_images, st.randoms(use_true_random=False), st.integers(0, 12))
def test_revisited_equals_the_walk_along_the_list(kinds: list[str], random: Any, kept: int) -> None:
    """Easy, Medium, Hard: take out what does not count, then walk the list from hit to hit."""
    of = {
        kind: frozenset(f"i{n}" for n, k in enumerate(kinds) if k == kind)
        for kind in ("easy", "hard", "junk")
    }
    truth = GroundTruth("r", (Labels("q", {"easy": of["easy"], "hard": of["hard"]}, of["junk"]),))
    listed = [f"i{n}" for n in range(len(kinds))]
    random.shuffle(listed)
    listed = listed[: max(kept, 1)]
    run = Run.from_dict({"q": {name: float(-rank) for rank, name in enumerate(listed)}})
    found = revisited(run, truth)
    for mode, positives, out in (
        ("E", of["easy"], of["hard"] | of["junk"]),
        ("M", of["easy"] | of["hard"], of["junk"]),
        ("H", of["hard"], of["easy"] | of["junk"]),
    ):
        if not positives:
            assert np.isnan(found[mode].aps[0])
            continue
        seen = [name in positives for name in listed if name not in out]
        area, hits = 0.0, 0
        for rank, hit in enumerate(seen):
            if hit:
                before = hits / rank if rank else 1.0
                hits += 1
                area += (before + hits / (rank + 1)) / 2 / len(positives)
        assert found[mode].aps[0] == pytest.approx(area, abs=1e-12)
        last = max((rank + 1 for rank, hit in enumerate(seen) if hit), default=1)
        expected = [sum(seen[: min(last, kappa)]) / min(last, kappa) for kappa in (1, 5, 10)]
        assert found[mode].mp == pytest.approx(expected, abs=1e-12)
        both = GroundTruth("g", (Labels("q", {"ok": positives}, out),))
        for k in (1, 3, 100):
            precisions = [sum(seen[: rank + 1]) / (rank + 1) for rank, hit in enumerate(seen[:k]) if hit]
            mean = sum(precisions) / min(k, len(positives))
            assert mean_average_precision(run, both, k=k).map == pytest.approx(mean, abs=1e-12)
            assert recall_at(run, both, [k]) == {k: float(any(seen[:k]))}


def test_a_ground_truth_is_known_by_its_looks(tmp_path: Path) -> None:
    gnd = write_gnd(tmp_path / "gnd_x.pkl", [{"easy": [0], "hard": [], "junk": []}], 2)
    assert load_truth(gnd).name == "x"
    (tmp_path / "solution.csv").write_text("id,images,Usage\nq,a b,Public\n")
    assert load_truth(tmp_path / "solution.csv").name == "gldv2"
    lists = {
        "sop": "image_id class_id super_class_id path\n1 1 1 a.jpg\n2 1 1 b.jpg\n",
        "ukbench": "".join(f"full/ukbench{n:05d}.jpg\n" for n in range(4)),
        "holidays": "jpg/100000.jpg\njpg/100001.jpg\n",
    }
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(text)
        assert load_truth(tmp_path / f"{name}.txt").name == name
    (tmp_path / "holidays.txt").write_text("x.jpg\n")
    with pytest.raises(FileFormatError, match="say its kind"):
        load_truth(tmp_path / "holidays.txt")
    with pytest.raises(DatasetError):
        load_truth(tmp_path / "holidays.txt", "holidays")
    with pytest.raises(StorageError, match="found nothing"):
        load_truth(tmp_path / "nothing.pkl")
    with pytest.raises(ParameterError, match="kind"):
        load_truth(gnd, "frob")  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    gnd = write_gnd(tmp_path / "gnd_x.pkl", [{"easy": [0], "hard": [1], "junk": []}] * 2, 4)
    run, other = tmp_path / "a.json", tmp_path / "b.json"
    Run.from_dict({"query_0": {"image_0": 2.0, "image_1": 1.0}, "query_1": {"image_3": 1.0}}).save(run)
    Run.from_dict({"query_0": {"image_0": 1.0}}).save(other)
    assert "mAP M" in done("benchmark", run, "--truth", gnd)
    found = json.loads(done("benchmark", run, "--truth", gnd, "--json"))
    assert found == {"a": evaluate_benchmark(Run.load(run), load_gnd(gnd))}
    assert found["a"]["mAP M"] == 0.5
    result = command("benchmark", run, other, "--truth", gnd)
    assert "b.json: lacks 1 of 2 queries, which count as zero: 'query_1'" in result.err
    assert unanswered(Run.load(other), load_gnd(gnd)) == ("query_1",)
    assert "found nothing" in failing("benchmark", run, "--truth", tmp_path / "none.pkl")
    assert "easy" in failing("benchmark", run, "--truth", write_gnd(tmp_path / "gnd_y.pkl", [{}], 1))
