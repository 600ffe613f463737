"""Writes bf16.h5, numbers in the two-byte float that HDF5 2.0 names H5T_FLOAT_BFLOAT16LE, made and converted by HDF5 by
way of h5py alone, for the test of the reader.

Run by hand: python tests/golden/make_bf16.py
"""

import pathlib

import h5py
import numpy as np

VALUES = np.array([0, 1, -2.5, 3.140625, 2.0**-126, 2.0**-133, -3.3895313892515355e38, np.inf], np.float32)

bf16 = h5py.h5t.IEEE_F32LE.copy()
bf16.set_fields(15, 7, 8, 0, 7)  # sign, exponent and its bits, mantissa and its bits
bf16.set_precision(16)
bf16.set_size(2)
bf16.set_ebias(127)

with h5py.File(pathlib.Path(__file__).parent / "bf16.h5", "w") as file:
    space = h5py.h5s.create_simple(VALUES.shape)
    h5py.h5d.create(file.id, b"values", bf16, space).write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES)
