#!/usr/bin/env python3
"""Writes tests/golden/safetensors/: files of the Python package safetensors (0.8) with known contents.

NAME.txt says what NAME.safetensors holds: the metadata, then one line for each tensor, sorted by name: its name, its dtype
as the format has it, its sizes and its bytes. Needs safetensors.
"""

import ctypes
import json
import pathlib

from safetensors import TensorSpec, serialize

FOLDER = pathlib.Path(__file__).resolve().parent / "safetensors"
BYTES = {"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2,
         "float32": 4, "float64": 8, "complex64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1}
# Those that LibTorch, or this project, does not hold; of float4 two elements share a byte.
OTHERS = {"float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1}


def save(name, tensors, metadata):
    """tensors: (name, dtype, sizes, bytes)"""
    buffers = [ctypes.create_string_buffer(data, max(len(data), 1)) for *_, data in tensors]
    specs = {key: TensorSpec(dtype=dtype, shape=sizes, data_ptr=ctypes.addressof(buffer), data_len=len(data))
             for (key, dtype, sizes, data), buffer in zip(tensors, buffers)}
    content = bytes(serialize(specs, metadata))
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + header_size])
    lines = [f"{key}={value}" for key, value in sorted(header.pop("__metadata__", {}).items())]
    for key, entry in sorted(header.items()):
        begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
        sizes = "".join(f"{size}," for size in entry["shape"])
        lines.append(f"{key}\t{entry['dtype']} ({sizes}) {content[begin:end].hex()}")
    (FOLDER / f"{name}.safetensors").write_bytes(content)
    (FOLDER / f"{name}.txt").write_text("".join(line + "\n" for line in lines))


def numbered(dtypes, count):
    for place, (dtype, width) in enumerate(dtypes.items()):
        yield f"{place:02}.{dtype}", dtype, [count], bytes((16 * place + i) % 251 for i in range(width * count))


FOLDER.mkdir(exist_ok=True)
save("dtypes", [(key, dtype, sizes, bytes(byte % 2 for byte in data) if dtype == "bool" else data)
                for key, dtype, sizes, data in numbered(BYTES, 3)], {"format": "pt"})
save("others", [*numbered(OTHERS, 2), ("weights", "float32", [2], bytes(8))], {"format": "pt", "note": 'with "quotes", ü and \\'})
save("shapes", [("number", "float32", [], b"\0\0\x80\x3f"), ("nothing", "float32", [3, 0, 2], b""), ("none", "int64", [0], b""),
                ("block", "uint8", [2, 1, 3], bytes(range(6))), ("Größe", "uint8", [1], b"\7"), ('a "quoted" \\ name', "uint8", [1], b"\x08")],
     {"format": "pt"})
save("empty", [], None)
