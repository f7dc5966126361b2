"""AMES local descriptors: masks, weights, positions, binarised on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.adapt import Itq, LinearAdapter, Signs
from ilias_fast.errors import FileFormatError, IncompatibleStoreError, NonFiniteError
from ilias_fast.store import LocalStore, import_store

h5py = pytest.importorskip("h5py")

IMAGES, SLOTS, DIM = 23, 6, 12
SIZES = [(640 + row, 480) for row in range(IMAGES)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilias_fast.store.formats.ames.BLOCK_BYTES", 4 * SLOTS * 17 * 5)


@pytest.fixture
def itq(rng: np.random.Generator) -> Itq:
    return Itq(np.zeros(DIM, np.float32), rng.standard_normal((DIM, 16)).astype(np.float32), 0.0)


def features(rng: np.random.Generator) -> NDArray[np.float32]:
    """As the published extraction leaves them: weights fall, the rest is padding."""
    slots = rng.random((IMAGES, SLOTS, 5 + DIM)).astype(np.float32)
    slots[..., 5:] -= 0.5
    slots[..., 2:4] = 0
    slots[..., 4] = -np.sort(-slots[..., 4], axis=1)
    for image in range(IMAGES):
        slots[image, image % (SLOTS + 1) :] = 0
        slots[image, image % (SLOTS + 1) :, 3] = 1
    return slots


def write(path: Path, slots: NDArray[Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=slots, **options)
    lines = [f"dir/{row}.jpg,label,{width},{height}\n" for row, (width, height) in enumerate(SIZES)]
    path.with_suffix(".txt").write_text("".join(lines[: len(slots)]))
    return path


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (4, SLOTS, 17), "compression": "gzip"}, {"chunks": (2, 3, 5)}]
)
def test_descriptors_are_binarised(
    options: dict[str, Any],
    tmp_path: Path,
    rng: np.random.Generator,
    itq: Itq,
) -> None:
    slots = features(rng)
    file = write(tmp_path / "dinov2_gallery_local.hdf5", slots, **options)
    store = import_store(file, tmp_path / "s", format="ames", adapter=itq)
    assert isinstance(store, LocalStore)
    assert list(store.ids) == [f"dir/{row}.jpg" for row in range(IMAGES)]
    for row, image in enumerate(store):
        valid = slots[row][slots[row, :, 3] == 0]
        assert np.array_equal(image.codes, np.packbits(valid[:, 5:] @ itq.projection >= 0, axis=1))
        assert np.array_equal(image.xy, valid[:, [1, 0]])
        assert image.weight is not None
        assert np.array_equal(image.weight, valid[:, 4])
        assert image.size == SIZES[row]
    few = import_store(file, tmp_path / "few", format="ames", adapter=itq, descriptors=2)
    assert isinstance(few, LocalStore)
    assert [len(image.codes) for image in few] == [min(2, row % (SLOTS + 1)) for row in range(IMAGES)]
    assert np.array_equal(few[5].codes, store[5].codes[:2])


@pytest.mark.usefixtures("small_blocks")
def test_an_import_of_local_descriptors_goes_on(tmp_path: Path, rng: np.random.Generator, itq: Itq) -> None:
    file = write(tmp_path / "f.hdf5", features(rng))
    whole = import_store(file, tmp_path / "whole", format="ames", adapter=itq)

    def stop(done: int, _total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(file, tmp_path / "s", format="ames", adapter=itq, progress=stop)
    assert len(LocalStore.open(tmp_path / "s")) == 10
    store = import_store(file, tmp_path / "s", format="ames", adapter=itq)
    assert list(store.ids) == list(whole.ids)
    assert isinstance(store, LocalStore)
    assert isinstance(whole, LocalStore)
    for image, other in zip(store, whole, strict=True):
        assert np.array_equal(image.codes, other.codes)
        assert np.array_equal(image.xy, other.xy)


@pytest.mark.usefixtures("small_blocks")
def test_descriptors_stay_floats_without_a_binarisation(tmp_path: Path, rng: np.random.Generator) -> None:
    slots = features(rng)
    file = write(tmp_path / "f.hdf5", slots)
    store = import_store(file, tmp_path / "s", format="ames")
    assert isinstance(store, LocalStore)
    assert (store.dim, store.bits, store.optional) == (DIM, 0, ("weight",))
    for row, image in enumerate(store):
        valid = slots[row][slots[row, :, 3] == 0]
        assert image.descriptors is not None
        assert np.array_equal(image.descriptors, valid[:, 5:].astype(np.float16))
        assert np.array_equal(image.xy, valid[:, [1, 0]])
        assert image.weight is not None
        assert np.array_equal(image.weight, valid[:, 4])
        assert image.size == SIZES[row]
    few = import_store(file, tmp_path / "few", format="ames", descriptors=2)
    assert isinstance(few, LocalStore)
    assert [len(image.xy) for image in few] == [min(2, row % (SLOTS + 1)) for row in range(IMAGES)]
    assert import_store(file, tmp_path / "s", format="ames").checksum == store.checksum
    assert store.verify().ok


def test_a_linear_layer_maps_descriptors_on_the_way(tmp_path: Path, rng: np.random.Generator) -> None:
    slots = features(rng)
    file = write(tmp_path / "f.hdf5", slots)
    layer = LinearAdapter(rng.standard_normal((3, DIM)), rng.standard_normal(3))
    store = import_store(file, tmp_path / "s", format="ames", adapter=layer)
    assert isinstance(store, LocalStore)
    assert store.dim == 3
    for row, image in enumerate(store):
        valid = slots[row][slots[row, :, 3] == 0]
        assert image.descriptors is not None
        expected = layer.apply(valid[:, 5:])
        np.testing.assert_allclose(image.descriptors, expected, rtol=2e-3, atol=2e-3)


def test_an_import_does_not_go_on_as_another_kind(tmp_path: Path, rng: np.random.Generator, itq: Itq) -> None:
    file = write(tmp_path / "f.hdf5", features(rng))
    import_store(file, tmp_path / "s", format="ames")
    with pytest.raises(IncompatibleStoreError, match="unfinished import"):
        import_store(file, tmp_path / "s", format="ames", adapter=itq)
    # 12 numbers are not 12 bits.
    signs = Signs(DIM)
    import_store(file, tmp_path / "signs", format="ames", adapter=signs)
    with pytest.raises(IncompatibleStoreError, match="unfinished import"):
        import_store(file, tmp_path / "signs", format="ames")


def test_a_descriptor_beyond_float16_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    slots = features(rng)
    slots[5, 2, 9] = 1e6
    slots[4, 5, 9] = np.nan  # of a descriptor that is masked
    file = write(tmp_path / "f.hdf5", slots)
    with pytest.raises(NonFiniteError, match=r"image 5 \('dir/5.jpg'\) is beyond float16"):
        import_store(file, tmp_path / "s", format="ames")


def test_positions_in_pixels_and_parts_of_a_whole(tmp_path: Path, rng: np.random.Generator, itq: Itq) -> None:
    slots = features(rng)
    pixels = slots.copy()
    pixels[..., 0] *= 480
    pixels[..., 1] *= np.array([width for width, _ in SIZES], np.float32)[:, None]
    for number in range(2):
        half = slice(12 * number, 12 * number + 12)
        with h5py.File(tmp_path / f"part{number}.hdf5", "w") as part:
            part["features"] = pixels[half]
    layout = h5py.VirtualLayout((IMAGES, SLOTS, 5 + DIM), np.float32)
    layout[:12] = h5py.VirtualSource(tmp_path / "part0.hdf5", "features", (12, SLOTS, 5 + DIM))
    layout[12:] = h5py.VirtualSource(tmp_path / "part1.hdf5", "features", (11, SLOTS, 5 + DIM))
    write(tmp_path / "f.hdf5", slots)
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        file.create_virtual_dataset("features", layout)
    store = import_store(tmp_path / "f.hdf5", tmp_path / "s", format="ames", adapter=itq)
    assert isinstance(store, LocalStore)
    for row, image in enumerate(store):
        valid = slots[row][slots[row, :, 3] == 0]
        np.testing.assert_allclose(image.xy, valid[:, [1, 0]], atol=1e-6)


def test_what_does_not_fit_is_refused(tmp_path: Path, rng: np.random.Generator, itq: Itq) -> None:
    def refuse(error: type[Exception], match: str, adapter: Any = itq) -> None:
        with pytest.raises(error, match=match):
            import_store(tmp_path / "f.hdf5", tmp_path / "s", format="ames", adapter=adapter)

    slots = features(rng)
    slots[4, 1, 3] = 0.5
    write(tmp_path / "f.hdf5", slots)
    refuse(FileFormatError, r"mask of 0 .* found 0.5 for descriptor 1 of image 4 \('dir/4.jpg'\)")
    slots[4, 1, 3] = 0
    slots[4, 1, 8] = np.nan
    write(tmp_path / "f.hdf5", slots)
    refuse(NonFiniteError, r"descriptor 1 of image 4 \('dir/4.jpg'\) holds NaN")
    slots[4, 1, 8] = 0
    slots[4, 1, 0] = 481
    write(tmp_path / "f.hdf5", slots)
    refuse(FileFormatError, r"positions within 'dir/4.jpg' of \[644, 480\] pixels")
    slots[4, 1, 0] = 0
    write(tmp_path / "f.hdf5", slots)
    wrong = Itq(np.zeros(DIM + 1, np.float32), np.ones((DIM + 1, 8), np.float32), 0.0)
    refuse(IncompatibleStoreError, f"dimension {DIM + 1} for this adapter.* of {DIM}", wrong)
    (tmp_path / "f.txt").write_text("dir/0.jpg\n" * IMAGES)
    refuse(FileFormatError, "`path,...,width,height`, found 'dir/0.jpg' for image 0")
    write(tmp_path / "f.hdf5", slots[:, :, :5])
    refuse(FileFormatError, r"\[n, T, 5 \+ D\], found float32")
    write(tmp_path / "f.hdf5", slots[:, 0])
    refuse(FileFormatError, r"\[n, T, 5 \+ D\]")
