#!/usr/bin/env python3
"""Writes tests/golden/checkpoints/: files of torch.save with known contents, in each container and pickle protocol.

CONTENT.txt says what every CONTENT.*.pt holds: one line for each value, `path<TAB>value`, tensors by the bytes of
their elements in row-major order. REFUSED.txt says which name each *.refused file asks for. Needs torch and numpy; Lightning's classes are stand-ins of the same names.
"""

import argparse
import collections
import datetime
import enum
import functools
import pathlib
import pickle
import random
import struct
import sys
import types
import zipfile

import numpy
import torch

FOLDER = pathlib.Path(__file__).resolve().parent / "checkpoints"
FLOATS = ["float64", "float32", "float16", "bfloat16"]
FLOATS8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]
UNSIGNED = ["uint16", "uint32", "uint64"]


def stand_in(module, name, base=object):
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    made = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


def raw(tensor):
    tensor = tensor.detach().contiguous().flatten()
    return bytes(tensor.view(torch.uint8).numpy()) if tensor.numel() else b""


def lines(value, path=""):
    """The text of CONTENT.txt; tests/formats/torch_file_test.cc makes the same text of the values that it reads."""
    if isinstance(value, torch.Tensor):
        sizes = "".join(f"{size}," for size in value.shape)
        yield f"{path}\ttensor {str(value.dtype).removeprefix('torch.')} ({sizes}) {raw(value).hex()}"
    elif isinstance(value, (dict, argparse.Namespace)):
        entries = vars(value) if isinstance(value, argparse.Namespace) else value
        yield f"{path}\tdict {len(entries)}"
        for key, entry in entries.items():
            yield from lines(entry, f"{path}/{'object' if isinstance(key, type) else key}")
    elif isinstance(value, (list, tuple, collections.deque)):
        yield f"{path}\t{'tuple' if isinstance(value, tuple) else 'list'} {len(value)}"
        for i, item in enumerate(value):
            yield from lines(item, f"{path}/{i}")
    elif isinstance(value, (set, frozenset)):
        yield f"{path}\tset {len(value)}"
    elif isinstance(value, numpy.floating) or type(value) is float:
        yield f"{path}\tfloat {struct.pack('<d', float(value)).hex()}"
    elif isinstance(value, (bool, numpy.bool_)):
        yield f"{path}\tbool {bool(value)}"
    elif isinstance(value, (int, numpy.integer)):
        big = not -(2**63) <= value < 2**63
        yield f"{path}\tint {'big' if big else value}"
    elif isinstance(value, (str, pathlib.PurePath)):
        yield f"{path}\tstr {value}"
    elif isinstance(value, (bytes, bytearray)):
        yield f"{path}\tbytes {bytes(value).hex()}"
    else:
        yield f"{path}\t{'None' if value is None else 'object'}"


def plain():
    shared = [1, 2, 3]
    return {
        "none": None, "yes": True, "no": False,
        "integers": [0, 255, 256, 65535, 65536, 2**31 - 1, -1, -(2**31), 2**31, 2**40, -(2**40), 2**63 - 1, -(2**63), 2**80],
        "floats": [0.0, -0.0, 1 / 3, 1e308, 5e-324, float("inf"), float("-inf")],
        "text": ["", "x" * 300, "caf\u00e9 \u6a21\u578b"],
        "bytes": [b"", bytes(range(256)), bytearray(b"array")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "nested": {"a": {"b": [{"c": ({"d": None},)}]}},
        "integer_keys": {0: "zero", 140379842387712: "id", -1: "minus"},
        "shared": [shared, shared], "sets": [{1, 2, 3}, frozenset({"a"})],
        "many": list(range(1100)), "dict_of_many": {i: i for i in range(1010)},
    }


def tensors():
    base = torch.arange(24, dtype=torch.float32)
    matrix = base.reshape(4, 6)
    tied = torch.arange(6, dtype=torch.float64)
    state = collections.OrderedDict(
        contiguous=matrix, transposed=matrix.t(), every_other=base[1::2], column=matrix[:, 2], corner=matrix[1:3, 2:5],
        permuted=base.reshape(2, 3, 4).permute(2, 0, 1), expanded=torch.tensor([7.0]).expand(3, 2),
        scalar=torch.tensor(0.684364), empty=torch.zeros(0), empty_matrix=torch.zeros(3, 0, 2),
        parameter=torch.nn.Parameter(torch.arange(5, dtype=torch.float32)), tied_a=tied, tied_b=tied,
        complex=torch.tensor([1 + 2j], dtype=torch.complex64),
    )
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return {"state_dict": state, "size": torch.Size([2, 3]), "dtype": torch.float16, "device": torch.device("cpu")}


def dtypes(names):
    values = torch.tensor([0.0, 1.0, -1.0, 0.5, 3.0, -4.0, 0.015625, 224.0])
    content = {}
    for name in names:
        dtype = getattr(torch, name)
        if not dtype.is_floating_point:
            content[name] = torch.tensor([0, 1, 127, 3], dtype=torch.int64).to(dtype)
        else:
            content[name] = values.to(dtype)
    return content


def lightning1():
    attributes = stand_in("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
    checkpoint = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    parameters = attributes(embed_dim=16, learning_rate=3e-3, name="fmnist", pretrained=None)
    adam = {"step": 7, "exp_avg": torch.full((2, 2), 0.5), "exp_avg_sq": torch.full((2, 2), 0.25)}
    return {
        "epoch": 3, "global_step": 4000, "pytorch-lightning_version": "1.2.0",
        "callbacks": {checkpoint: {"best_model_score": torch.tensor(0.68), "best_model_path": "a/b.ckpt"}},
        "optimizer_states": [{"state": {140379842387712: adam}, "param_groups": [{"lr": 0.01, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [{"T_max": 25000, "base_lrs": [0.01], "milestones": collections.Counter({30: 1})}],
        "state_dict": collections.OrderedDict({"gpt.sos": torch.arange(4, dtype=torch.float32)}),
        "hparams_name": "hparams", "hparams_type": attributes, "hyper_parameters": parameters,
        "arguments": argparse.Namespace(gpus="0", steps=300, checkpoint=pathlib.PurePosixPath("/logs/a.ckpt")),
    }


def lightning2():
    attributes = stand_in("lightning_fabric.utilities.data", "AttributeDict", dict)
    return {
        "epoch": 1, "global_step": 1688, "pytorch-lightning_version": "2.4.0",
        "state_dict": collections.OrderedDict({"gpt.sos": torch.arange(4, dtype=torch.bfloat16)}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2, "completed": 1}}},
                  "validate_loop": {"epoch_loop.batch_progress": {"is_last_batch": True}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min', 'every_n_train_steps': 0}":
                      {"monitor": "val_loss", "best_model_score": torch.tensor(0.7), "best_k_models": {"a.ckpt": torch.tensor(0.7)},
                       "kth_value": torch.tensor(float("inf")), "dirpath": "logs"},
                      "EarlyStopping{'monitor': 'val_acc'}": {"wait_count": 2, "stopped_epoch": 0}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-3, "fused": None}]}],
        "lr_schedulers": [], "MixedPrecision": {"scale": 65536.0}, "hparams_name": "kwargs",
        "hyper_parameters": attributes(embed_dim=16, schedule="cosine", precision="bf16"),
        "datamodule_hyper_parameters": {"path": pathlib.PurePosixPath("data/train_x.npy")}, "torch": torch.__version__,
    }


def numbers():
    random.seed(1)
    return {
        "python": random.getstate(), "numpy": list(numpy.random.RandomState(1).get_state()), "torch": torch.arange(16, dtype=torch.uint8),
        "float64": numpy.float64(0.1), "float32": numpy.float32(0.1), "int64": numpy.int64(-5), "int32": numpy.int32(7),
        "bool": numpy.bool_(True), "array": numpy.arange(6.0).reshape(2, 3), "deque": collections.deque([1, 2], maxlen=4),
        "defaultdict": collections.defaultdict(list, {"a": [1]}), "complex": 1j, "range": range(3),
        "widths": [getattr(numpy, name)(value) for name, value in (
            ("int8", -8), ("int16", -16), ("int32", -32), ("int64", -64), ("uint8", 250), ("uint16", 65000), ("uint32", 2**32 - 1),
            ("uint64", 64), ("uint64", 2**64 - 1), ("float16", 0.1), ("float32", 0.1), ("float64", 0.1), ("bool_", False))],
    }


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(2, 3, bias=False)


class Precision(enum.Enum):
    SINGLE = 32


def refused():
    """Values that torch.save accepts and that are not plain data, by the name that the message must contain."""
    yield "model", "__main__.Net", Net()
    yield "model_of_torch", "torch.nn.modules.container.Sequential", torch.nn.Sequential(torch.nn.Linear(2, 3))
    yield "model_inside", "__main__.Net", {"epoch": 1, "model": Net()}
    yield "datetime", "datetime.datetime", {"state_dict": {}, "saved": datetime.datetime(2020, 8, 1)}
    yield "enum", "__main__.Precision", {"hyper_parameters": {"precision": Precision.SINGLE}}
    yield "partial", "functools.partial", {"hyper_parameters": {"activation": functools.partial(torch.nn.functional.gelu)}}
    yield "optimizer", "torch.optim.adam.Adam", {"optimizer": torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])}
    yield "sparse", "torch._utils._rebuild_sparse_tensor", {"state_dict": {"gpt.sos": torch.eye(2).to_sparse()}}


class WithViews(pickle.Pickler):
    """The legacy container as PyTorch 0.4 wrote it where storages were views of others."""

    def persistent_id(self, value):
        return value.id if isinstance(value, Stored) else None


class Stored:
    def __init__(self, view):
        self.id = ("storage", torch.FloatStorage, "root", "cpu", 8, view)


class Rebuilt:
    def __init__(self, stored, sizes):
        self.arguments = (stored, 1, sizes, (1,), False, collections.OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def write_legacy_views(path):
    values = torch.arange(8, dtype=torch.float32)
    with open(path, "wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
            pickle.dump(head, file, protocol=2)
        WithViews(file, protocol=2).dump({"root": Rebuilt(Stored(None), (7,)), "view": Rebuilt(Stored(("view", 2, 5)), (4,))})
        pickle.dump(["root"], file, protocol=2)
        file.write(struct.pack("<q", 8) + raw(values))
    return {"root": values[1:], "view": values[3:7]}


def zip_again(source, target, options):
    """The unpacked folder as another archiver packs it: compressed, with entries for folders, under another name."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        new.writestr("folder/", "")
        for entry in old.infolist():
            new.writestr("folder/" + entry.filename.split("/", 1)[1], old.read(entry))


def write(name, content, legacy=True, protocols=(2, 3, 4, 5)):
    for protocol in protocols:
        torch.save(content, FOLDER / f"{name}.zip{protocol}.pt", pickle_protocol=protocol)
        if legacy:
            torch.save(content, FOLDER / f"{name}.legacy{protocol}.pt", pickle_protocol=protocol,
                       _use_new_zipfile_serialization=False)
    write_text(name, content)


def write_text(name, content):
    (FOLDER / f"{name}.txt").write_text("".join(line + "\n" for line in lines(content)))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    torch.manual_seed(0)
    write("plain", plain(), protocols=(2, 5))
    write("tensors", tensors())
    write("dtypes", dtypes(FLOATS + INTEGERS + ["bool"]), protocols=(2,))
    write("dtypes_untyped", dtypes(FLOATS8 + UNSIGNED), legacy=False, protocols=(2,))
    write("lightning1", lightning1(), protocols=(2, 4))
    write("lightning2", lightning2(), protocols=(2,))
    write("numbers", numbers(), protocols=(2, 5))
    # The legacy container holds the source of each class, and the path of its file on this machine.
    torch.serialization.get_source_lines_and_file = lambda kind: ([f"class {kind.__name__}: pass\n"], 1, "model.py")
    names = []
    for name, asked, content in refused():
        names.append(f"{name}\t{asked}\n")
        for container in ("zip", "legacy"):
            torch.save(content, FOLDER / f"{name}.{container}.refused", _use_new_zipfile_serialization=container == "zip")
    (FOLDER / "REFUSED.txt").write_text("".join(names))
    write_text("views", write_legacy_views(FOLDER / "views.legacy2.pt"))
    zip_again(FOLDER / "tensors.zip2.pt", FOLDER / "tensors.deflated.pt", {"compression": zipfile.ZIP_DEFLATED})
    zip_again(FOLDER / "tensors.zip2.pt", FOLDER / "tensors.stored.pt", {"compression": zipfile.ZIP_STORED})


if __name__ == "__main__":
    main()
