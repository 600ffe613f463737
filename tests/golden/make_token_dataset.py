"""Writes token_dataset.h5, a token dataset made by h5py alone, for the test of the reader.

Run by hand: python tests/golden/make_token_dataset.py
"""

import pathlib

import h5py
import numpy as np

DOCUMENTS = [b"To foretoken:\n", "naïve\x01".encode(), b"z"]
END = 256

tokens, offsets = [], [0]
for document in DOCUMENTS:
    tokens += [*document, END]
    offsets.append(len(tokens))

with h5py.File(pathlib.Path(__file__).parent / "token_dataset.h5", "w") as file:
    file["tokens"] = np.array(tokens, dtype=np.uint16)
    file["document_offsets"] = np.array(offsets, dtype=np.int64)
    file.attrs["format"] = np.bytes_("foretoken token dataset")
    file.attrs["format_version"] = 1
    file.attrs["tokenizer_name"] = np.bytes_("bytes")
    file.attrs["tokenizer_digest"] = np.bytes_("7616142adcc6254c5795ed877f813edd")
    file.attrs["vocab_size"] = 257
    file.attrs["end_of_document"] = END
