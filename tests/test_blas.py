"""BLAS threads are limited inside the block only, however blocks overlap."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from ilias_fast._blas import single_threaded

threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs the extra [classical]")


def blas_threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {
        library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
    }


def test_overlapping_blocks() -> None:
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        assert before == {2}
        first, second = ExitStack(), ExitStack()
        first.enter_context(single_threaded())
        assert blas_threads() == {1}
        second.enter_context(single_threaded())
        first.close()
        assert blas_threads() == {1}
        second.close()
        assert blas_threads() == before


def test_an_exception_gives_the_threads_back() -> None:
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        with pytest.raises(KeyError), single_threaded():
            raise KeyError
        assert blas_threads() == {2}
