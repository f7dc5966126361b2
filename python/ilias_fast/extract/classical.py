"""Download-free extraction: RootSIFT, aggregated by VLAD (global descriptor), binarised by ITQ (local)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, cpu
from ilias_fast._blas import single_threaded
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.adapt.adapter import require_tensor
from ilias_fast.adapt.itq import Itq
from ilias_fast.errors import DatasetError, FileFormatError, ImageError, ParameterError
from ilias_fast.extract import sift
from ilias_fast.extract.features import LocalFeatures
from ilias_fast.extract.vlad import kmeans, vlad
from ilias_fast.images import ImageSource, decode

__all__ = ["ClassicalExtractor", "ClassicalOptions", "local_features"]

_FORMAT = "classical-1"
_FIT_IMAGES = 400
_CODEBOOK_SAMPLE = 100_000
_ITQ_SAMPLE = 20_000


@dataclass(frozen=True)
class ClassicalOptions:
    """Settings of the classical extractor.

    Attributes:
        longer_side: Images larger than this, in pixels, are shrunk to it; smaller ones are not enlarged.
        keypoints: Strongest keypoints that become local descriptors, at most.
        global_keypoints: Strongest keypoints that enter the global descriptor, at most.
        words: Size of the codebook; the global descriptor has words * 128 dimensions. (On the two data
            sets that `ilias_fast.adapt.pca` describes, 128 words reach mAP 92.5 and 94.8 before whitening,
            64 words 88.6 and 88.7.)
        power: Exponent of the VLAD's signed power normalisation, in (0, 1].
        bits: Length of the local codes, a multiple of 8, at most 128.

    Examples:
        >>> ClassicalOptions().words * 128, ClassicalOptions(bits=64).bits
        (16384, 64)
    """

    longer_side: int = 500
    keypoints: int = 500
    global_keypoints: int = 1000
    words: int = 128
    power: float = 0.5
    bits: int = 128

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ParameterError: A setting is outside its range.
        """
        for name in ("longer_side", "keypoints", "global_keypoints", "words"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ParameterError(f"{name}: expected a whole number of at least 1, found {value!r}")
        if type(self.bits) is not int or self.bits % 8 or not 8 <= self.bits <= sift.DIM:
            raise ParameterError(f"bits: expected a multiple of 8 from 8 to {sift.DIM}, found {self.bits!r}")
        if not 0 < self.power <= 1:
            raise ParameterError(f"power: expected a number in (0, 1], found {self.power!r}")


class ClassicalExtractor:
    """RootSIFT + VLAD + ITQ. Made by `ClassicalExtractor.fit` or `ClassicalExtractor.load`.

    An image without keypoints (a plain wall) has no local descriptors and an all-zero global one, whose
    inner product with everything is 0.

    Attributes:
        options: The settings.
        centres: float32 [words, 128], the codebook.
        itq: The binarisation of the local descriptors.
        threads: Images described at the same time.

    Examples:
        >>> from ilias_fast.datasets import load_dataset
        >>> from ilias_fast.datasets.generate import generate
        >>> from ilias_fast.images import decode
        >>> _ = generate("toy", objects=1, images=10)
        >>> source, ids = load_dataset("toy").images("queries")
        >>> options = ClassicalOptions(longer_side=200, words=4, bits=8)
        >>> extractor = ClassicalExtractor.fit(source, ids, options=options)
        >>> vectors, local = extractor.extract([decode(source.read(ids[0]), ids[0])])
        >>> vectors.shape, local[0].codes.shape[1], len(local[0].codes) == len(local[0].xy)
        ((1, 512), 1, True)
    """

    def __init__(
        self, options: ClassicalOptions, centres: NDArray[np.float32], itq: Itq, *, threads: int | None = None
    ) -> None:
        self.options = options
        self.centres = centres
        self.itq = itq
        self.threads: int = cpu.threads(threads)

    @classmethod
    def fit(
        cls,
        source: ImageSource,
        ids: Sequence[str] | None = None,
        *,
        options: ClassicalOptions | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> ClassicalExtractor:
        """Learn the codebook and the binarisation from a sample of images.

        At most 400 images and 100,000 descriptors are used, drawn by `seed`; the result depends on the
        images, the options and the seed only, not on the number of threads. Unreadable images are left out.

        Args:
            source: Where the images are.
            ids: Which to learn from; None for all of the source.
            options: Settings; None for the defaults.
            seed: Of the sample, the codebook and the rotation.
            threads: Images described at the same time; None for all cores.

        Raises:
            DatasetError: None of the images can be read.
            ShapeError: The images have fewer keypoints than the codebook has words.
            MissingExtraError: OpenCV or Pillow is not installed.
        """
        options = options or ClassicalOptions()
        threads = cpu.threads(threads)
        require("cv2", "extract classical descriptors")
        seed = _arrays.at_least("seed", seed, 0)
        generator = np.random.default_rng(seed)
        every = list(source.ids() if ids is None else ids)
        chosen = np.sort(generator.permutation(len(every))[:_FIT_IMAGES])
        share = max(1, -(-_CODEBOOK_SAMPLE // max(1, len(chosen))))

        def describe(row: int) -> NDArray[np.float32] | None:
            try:
                image = decode(source.read(every[row]), every[row])
            except ImageError:
                return None
            found = sift.detect(image, longer_side=options.longer_side, keypoints=options.global_keypoints)
            # Each image draws by its own seed: no image's share depends on which thread came first.
            kept = np.random.default_rng((seed, int(row))).permutation(len(found))[:share]
            return found.descriptors[np.sort(kept)]

        with ThreadPoolExecutor(threads) as pool:
            samples = [found for found in pool.map(describe, chosen) if found is not None]
        if not samples:
            raise DatasetError(f"expected images to learn from, but none of {len(chosen)} can be read")
        points = np.concatenate(samples)
        points = points[np.sort(generator.permutation(len(points))[:_CODEBOOK_SAMPLE])]
        centres = kmeans(points, options.words, seed=seed)
        itq = Itq.fit(points[generator.permutation(len(points))[:_ITQ_SAMPLE]], options.bits, seed=seed)
        return cls(options, centres, itq, threads=threads)

    @property
    def global_dim(self) -> int:
        """Dimension of the global descriptor: words * 128."""
        return self.centres.size

    @property
    def code_bits(self) -> int:
        """Length of the local codes."""
        return self.itq.bits

    @property
    def local_optional(self) -> tuple[str, ...]:
        """Scale, angle and weight: all local descriptors have them."""
        return ("scale", "angle", "weight")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the settings and everything learned."""
        digest = hashlib.sha256(json.dumps([_FORMAT, asdict(self.options)], sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.centres, dtype="<f4").tobytes())
        digest.update(self.itq.fingerprint.encode())
        return digest.hexdigest()

    def provenance(self) -> dict[str, object]:
        """Return the settings and the fingerprint of what was learned."""
        return {"extractor": _FORMAT, "vocabulary": self.fingerprint, **asdict(self.options)}

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], list[LocalFeatures]]:
        """Describe images, several at a time.

        Args:
            images: uint8 [height, width, 3] each, RGB.

        Returns:
            VLAD float32 [len(images), words * 128], and the local descriptors (codes, positions, scale,
            angle, response as weight) of each image.

        Raises:
            MissingExtraError: OpenCV is not installed.
        """
        require("cv2", "extract classical descriptors")
        vectors = np.zeros((len(images), self.global_dim), np.float32)
        with single_threaded(), ThreadPoolExecutor(self.threads) as pool:
            described = pool.map(partial(self._describe, vectors), range(len(images)), images)
            return vectors, list(described)

    def _describe(self, vectors: NDArray[np.float32], row: int, image: NDArray[np.uint8]) -> LocalFeatures:
        options = self.options
        most = max(options.keypoints, options.global_keypoints)
        found = sift.detect(image, longer_side=options.longer_side, keypoints=most)
        vectors[row] = vlad(found.descriptors[: options.global_keypoints], self.centres, power=options.power)
        return local_features(found, self.itq, options.keypoints)

    def save(self, path: StrPath) -> None:
        """Write settings and everything learned as one safetensors file.

        Args:
            path: The file; replaced if it exists.

        Raises:
            StorageError: The file cannot be written.
        """
        tensors = {"centres": self.centres, **{f"itq.{name}": t for name, t in self.itq.tensors().items()}}
        metadata = {
            "ilias_fast.extractor": _FORMAT,
            "ilias_fast.options": json.dumps(asdict(self.options)),
            "ilias_fast.itq_error": repr(self.itq.error),
        }
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: StrPath, *, threads: int | None = None) -> ClassicalExtractor:
        """Read an extractor that `save` wrote.

        Args:
            path: The file.
            threads: Images described at the same time; None for all cores.

        Raises:
            StorageError: The file is missing or cannot be read.
            FileFormatError: It is damaged or something else.
        """
        tensors, metadata = read_tensors(path)
        if metadata.get("ilias_fast.extractor") != _FORMAT:
            found = metadata.get("ilias_fast.extractor")
            raise FileFormatError(f"{path}: expected a {_FORMAT} extractor, found {found!r}")
        try:
            given = json.loads(metadata["ilias_fast.options"])
            if unknown := set(given) - {field.name for field in fields(ClassicalOptions)}:
                raise FileFormatError(f"unknown options {', '.join(sorted(unknown))}")
            options = ClassicalOptions(**given)
            centres = require_tensor(tensors, "centres", (options.words, sift.DIM))
            mean = require_tensor(tensors, "itq.mean", (sift.DIM,))
            projection = require_tensor(tensors, "itq.projection", (sift.DIM, options.bits))
            itq = Itq(mean, projection, float(metadata["ilias_fast.itq_error"]))
        except (KeyError, ValueError, TypeError) as cause:
            raise FileFormatError(f"{path}: damaged extractor file ({cause})") from cause
        return cls(options, centres, itq, threads=threads)


def local_features(found: sift.Sift, itq: Itq, most: int) -> LocalFeatures:
    """Return the strongest keypoints of an image with binary codes.

    Args:
        found: Its keypoints.
        itq: Makes the codes.
        most: Keypoints kept, at most.
    """
    kept = slice(most)
    return LocalFeatures(
        codes=itq.apply(found.descriptors[kept]),
        xy=found.xy[kept],
        scale=found.scale[kept],
        angle=found.angle[kept],
        weight=found.response[kept],
        size=found.size,
    )
