"""Bitwise comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Assert that nested dictionaries, sequences and arrays have the same bits (NaN equals NaN)."""
    if isinstance(a, Mapping):
        assert isinstance(b, Mapping), where
        assert set(a) == set(b), f"{where}: {sorted(set(a) ^ set(b))}"
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert_same(list(a), list(b), where)
    elif a is None or b is None:
        assert a is b, where
    else:
        assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind, where
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=where)
