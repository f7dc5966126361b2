"""The matrix kernels keep their accumulators in registers; spilled ones cost a third of the speed, unseen."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter

import pytest

from ilias_fast import _core

# Kernel and the multiply that runs in it; it has 8 accumulators or more, none of which may go to the stack.
KERNELS = {
    "dot_i8::avx512::panel": "vpdpbusd",
    "dot_i8::avx512::scores": "vpdpbusd",
    "dot_i8::avx2::tile": "vpmaddubsw",
    "dot_bf16::avx512::panel": "vdpbf16ps",
    "dot_f16::avx512::tile": "vfmadd",
    "affine::avx512::tile": "vfmadd",
}
STORE = re.compile(r"vmov\w+\s+%[yz]mm\d+,-?(?:0x[0-9a-f]+)?\(%r[sb]p\)")
FEWER = 4
"""Values kept from row to row may be stored once, outside the loops; accumulators would be 8 and more."""


def test_no_accumulator_is_spilled() -> None:
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("no objdump here to look at the machine code with")
    command = [objdump, "--disassemble", "--demangle", "--no-show-raw-insn", _core.__file__]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bodies = dict(
        re.findall(r"^[0-9a-f]+ <ilias_fast_core::kernels::(.*)>:\n((?:.+\n)*)", code, re.MULTILINE)
    )
    if not bodies:
        pytest.skip("the extension has no symbols to find its kernels by")
    stores: Counter[str] = Counter()
    for name, multiply in KERNELS.items():
        found = {full: body for full, body in bodies.items() if full.startswith(name)}
        assert found, f"no machine code of {name}"
        assert any(multiply in body for body in found.values()), f"{name} does not multiply by {multiply}"
        stores[name] = sum(len(STORE.findall(body)) for body in found.values())
    assert all(count < FEWER for count in stores.values()), stores
