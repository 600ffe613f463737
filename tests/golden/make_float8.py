"""Writes float8.h5, 8-bit floats as ml_dtypes encodes and decodes them.

Run by hand: python tests/golden/make_float8.py      (needs h5py, ml_dtypes, numpy)
"""

import pathlib

import h5py
import ml_dtypes
import numpy as np

rng = np.random.default_rng(1)
with h5py.File(pathlib.Path(__file__).parent / "float8.h5", "w") as file:
    for name, dtype, largest in (("e4m3", ml_dtypes.float8_e4m3fn, 448), ("e5m2", ml_dtypes.float8_e5m2, 57344)):
        decoded = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
        file[f"{name}/decoded"] = decoded
        finite = np.sort(decoded[np.isfinite(decoded)])
        # Every number, every midpoint of two (a tie), numbers beyond the largest one, and random ones.
        inputs = np.concatenate([
            finite, (finite[1:] + finite[:-1]) / 2, [1e9, -1e9, np.inf, -np.inf],
            rng.normal(size=500) * np.exp2(rng.integers(-18, 18, 500))]).astype(np.float32)
        file[f"{name}/inputs"] = inputs
        file[f"{name}/codes"] = np.clip(inputs, -largest, largest).astype(dtype).view(np.uint8)
