"""Writes token datasets by h5py and xxhash alone, for the tests of the reader:

token_dataset.h5           version 1, contiguous (io/datasets/token_dataset.h)
token_dataset_chunked.h5   version 1 in chunks, as version 1's own writer stored it
token_dataset_v2.h5        version 2, with digests and index (io/datasets/token_dataset_index.h)

Run by hand: python tests/golden/make_token_dataset.py
"""

import json
import pathlib

import h5py
import numpy as np
import xxhash

DOCUMENTS = [b"To foretoken:\n", "naïve\x01".encode(), b"z"]
END = 256
CHUNK = 65536
TOKENIZER = {
    "tokenizer_name": "bytes",
    "tokenizer_digest": "7616142adcc6254c5795ed877f813edd",
    "vocab_size": 257,
    "end_of_document": END,
}
FOLDER = pathlib.Path(__file__).parent


def content(documents):
    tokens, offsets = [], [0]
    for document in documents:
        tokens += [*document, END]
        offsets.append(len(tokens))
    return np.array(tokens, dtype="<u2"), np.array(offsets, dtype="<i8")


def write_attributes(file, version):
    file.attrs["format"] = np.bytes_("foretoken token dataset")
    file.attrs["format_version"] = version
    for name, value in TOKENIZER.items():
        file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value


def write_version_1(name, **storage):
    tokens, offsets = content(DOCUMENTS)
    with h5py.File(FOLDER / name, "w") as file:
        file.create_dataset("tokens", data=tokens, **storage)
        file.create_dataset("document_offsets", data=offsets, **storage)
        write_attributes(file, 1)


def digests(array):
    data = array.tobytes()
    parts = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    return np.frombuffer(b"".join(xxhash.xxh3_128_digest(part) for part in parts), np.uint8).reshape(-1, 16)


def write_version_2(name):
    tokens, offsets = content(DOCUMENTS)
    arrays = {
        "tokens": tokens,
        "document_offsets": offsets,
        "token_digests": digests(tokens),
        "offset_digests": digests(offsets),
    }
    places = {}
    with h5py.File(FOLDER / name, "w") as file:
        for key, values in arrays.items():
            file[key] = values
            dtype = {"<u2": "u16", "<i8": "i64", "|u1": "u8"}[values.dtype.str]
            places[key] = {"dtype": dtype, "count": values.size, "address": file[key].id.get_offset()}
        write_attributes(file, 2)

    stored = (FOLDER / name).read_bytes()
    outside = bytearray()
    end = 0
    for key in sorted(places, key=lambda key: places[key]["address"]):
        outside += stored[end : places[key]["address"]]
        end = places[key]["address"] + arrays[key].nbytes
    outside += stored[end:]
    head = "\n".join(
        ["foretoken token dataset 2", *(str(value) for value in TOKENIZER.values())]
        + [places["tokens"]["dtype"], str(tokens.size), str(offsets.size), str(CHUNK), ""]
    )
    identity = head.encode() + arrays["token_digests"].tobytes() + arrays["offset_digests"].tobytes()
    index = {"format_version": 2, **TOKENIZER, "chunk_bytes": CHUNK, **places}
    index["structures"] = xxhash.xxh3_128_hexdigest(bytes(outside))
    index["identity"] = xxhash.xxh3_128_hexdigest(identity)
    text = json.dumps(index).encode()
    with open(FOLDER / name, "ab") as file:
        file.write(text + len(text).to_bytes(8, "little") + xxhash.xxh3_128_digest(text) + b"FTKINDEX")


write_version_1("token_dataset.h5")
write_version_1("token_dataset_chunked.h5", chunks=(4,))
write_version_2("token_dataset_v2.h5")
