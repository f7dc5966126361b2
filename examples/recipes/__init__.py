"""Kernels inside other people's pipelines: what a pipeline does now, and the same with `ilias_fast.kernels`.

Every recipe has `make_data(size, seed)`, `before(...)` and `after(...)`, and `check(theirs, ours, data)`,
which says whether the answers agree.
"""
