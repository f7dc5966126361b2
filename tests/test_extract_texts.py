"""Text towers: tokens and descriptors equal to open_clip's own, into a store, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import DuplicateIdError, IncompatibleStoreError, ParameterError
from ilias_fast.extract import TextExtractor, extract_texts, models
from ilias_fast.store import GlobalStore

torch = pytest.importorskip("torch", reason="text towers need torch (extra: torch)")
open_clip = pytest.importorskip("open_clip", reason="text towers need open_clip (extra: torch)")

TEXTS = ["a red mug with a chip\n", "  A  Statue, of a man on a HORSE", "word " * 200]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the text towers of two models small."""
    for name, context in (("ViT-B-16", 77), ("PE-Core-B-16", 32)):
        config = {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
            "text_cfg": {
                "context_length": context,
                "vocab_size": 49408,
                "width": 64,
                "heads": 2,
                "layers": 1,
            },
        }
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "tower", "context"),
    [
        ("vit_base_patch16_clip_224.openai", "ViT-B-16", 77),
        ("vit_pe_core_base_patch16_224.fb", "PE-Core-B-16", 32),
        ("open_clip:ViT-B-16", "ViT-B-16", 77),
    ],
)
def test_descriptors_are_open_clips(tmp_path: Path, name: str, tower: str, context: int) -> None:
    model = open_clip.create_model(tower, load_weights=False).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    extractor = TextExtractor(name, weights=tmp_path / "clip.pt", device="cpu", batch_size=2)
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(tower)(TEXTS)
        expected = model.encode_text(tokens, normalize=True).numpy()
    assert tokens.shape == (3, context)
    np.testing.assert_allclose(extractor.extract(TEXTS), expected, atol=1e-5)
    assert extractor.provenance()["text_model"] in (tower, f"hf-hub:timm/{tower}")


@pytest.mark.usefixtures("small")
def test_texts_fill_a_store_and_resume(tmp_path: Path) -> None:
    name = "vit_base_patch16_clip_224.openai"
    extractor = TextExtractor(name, weights="random", seed=1, device="cpu", batch_size=2)
    texts = [(f"T{number}.txt", text) for number, text in enumerate(TEXTS)]
    calls: list[tuple[int, int]] = []
    assert extract_texts(extractor, texts[:1], tmp_path / "t") == 1
    assert extract_texts(extractor, texts, tmp_path / "t", progress=lambda *done: calls.append(done)) == 2
    assert calls == [(3, 3)]
    store = GlobalStore.open(tmp_path / "t")
    assert list(store.ids) == ["T0.txt", "T1.txt", "T2.txt"]
    np.testing.assert_array_equal(store.rows([0, 1, 2]), extractor.extract(TEXTS).astype(np.float16))
    other = TextExtractor(name, weights="random", seed=2, device="cpu")
    with pytest.raises(IncompatibleStoreError, match="text_weights"):
        extract_texts(other, texts, tmp_path / "t")
    with pytest.raises(DuplicateIdError, match=r"T0\.txt"):
        extract_texts(extractor, texts[:1] * 2, tmp_path / "t")


def test_every_text_row_has_a_tower_that_open_clip_knows() -> None:
    known = set(open_clip.list_models())
    for row in models(text=True):
        assert row.text_model.rpartition("/")[2] in known
        if row.text_repo == "oc":
            assert row.text_pretrained in open_clip.list_pretrained_tags_by_model(row.text_model)


def test_models_without_a_text_tower() -> None:
    with pytest.raises(ParameterError, match=r"dinov2_vitb14 has no text tower; RN50\.openai"):
        TextExtractor("dinov2_vitb14", weights="random")


@pytest.mark.usefixtures("small")
def test_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    def tokenize(texts: list[str]) -> Any:
        return torch.zeros((len(texts), 77), dtype=torch.int64)

    extractor = TextExtractor("open_clip:ViT-B-16", weights="random", device="cpu", tokenize=tokenize)
    assert extractor.extract(["x"]).shape == (1, 24)
    assert extract_texts(extractor, [("a", "x")], tmp_path / "t") == 1
