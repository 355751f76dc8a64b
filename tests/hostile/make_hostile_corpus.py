#!/usr/bin/env python3
"""Writes files that attack the readers into FOLDER/KIND/VERDICT/NAME, together with some good ones from which fuzzers
start. The kinds are pickle, zip, torch_file, checkpoint, safetensors, model (checkpoints as
safetensors), config and clusters (of transformers' folders), json, npy, idx, gzip, image, tar, yaml (configurations), dataset
(dataset.yaml), runs (of the folder of a run) and large. The verdict is what a program does with the file: `read` or `refused`. Always writes the same bytes, and needs only
the standard library.

    tests/hostile/make_hostile_corpus.py FOLDER
"""

import base64
import dataclasses
import gzip
import io
import json
import pathlib
import shutil
import struct
import sys
import tarfile
import zlib

MILLION = 1_000_000
LENGTHS = {"0": 0, "minus_1": -1, "2e31": 1 << 31, "2e63": 1 << 63}
PROOF = "igpt_was_here"  # a file that appears if a pickle runs code


def field(number, width):
    """A number as `width` bytes, little-endian, truncated to fit."""
    return (number % (1 << 8 * width)).to_bytes(width, "little")


# Pickles


@dataclasses.dataclass
class Tensor:
    key: str
    numel: int
    sizes: list
    strides: list = None
    offset: int = 0
    storage: str = "FloatStorage"
    location: str = "cpu"


class Raw(bytes):
    """Opcodes that are used in place of a value."""


def contiguous(sizes):
    strides, stride = [], 1
    for size in reversed(sizes):
        strides.insert(0, stride)
        stride *= size
    return strides


def storage_id(tensor):
    return emit(("storage", Raw(b"ctorch\n" + tensor.storage.encode() + b"\n"), tensor.key, tensor.location, tensor.numel))


def emit(value):
    """The opcodes of a value, of protocol 2, as torch.save writes them."""
    if isinstance(value, Raw):
        return bytes(value)
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(digits)]) + digits
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, Tensor):
        strides = contiguous(value.sizes) if value.strides is None else value.strides
        arguments = (Raw(storage_id(value) + b"Q"), value.offset, tuple(value.sizes), tuple(strides), False, {})
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + emit(arguments) + b"R"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(emit, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(emit, value)) + b"e"
    return b"}(" + b"".join(emit(key) + emit(entry) for key, entry in value.items()) + b"u"


def pickled(value):
    return b"\x80\x02" + emit(value) + b"."


def text(opcode, width, content=b"abc", length=None):
    return opcode + field(len(content) if length is None else length, width) + content


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def pickles():
    touch = emit(("touch " + PROOF,))
    write = emit((PROOF, "w"))
    yield "good_values", pickled({"a": [1, -2, 0.5, None, True], "b": ("x", 1 << 40), 7: {}})
    yield "good_tensor", pickled(Tensor("0", 8, [2, 4]))
    yield "good_protocol_4", b"\x80\x04\x95" + field(20, 8) + b"}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94e\x8c\x01c\x94Nu."
    yield "good_text_opcodes", b"(I1\nI01\nL-5L\nF0.5\np0\ng0\nl."
    yield "good_globals", pickled(
        [Raw(glob("collections", "OrderedDict") + b")R"), Raw(glob("_codecs", "encode") + emit(("\xe9a", "latin1")) + b"R"),
         Raw(glob("builtins", "set") + emit(([1, 2],)) + b"R"), Raw(glob("torch", "float32")),
         Raw(glob("pathlib", "PosixPath") + emit(("a", "b")) + b"R"), Raw(glob("argparse", "Namespace") + b")\x81" + emit({"a": 1}) + b"b"),
         Raw(glob("numpy.core.multiarray", "scalar") + b"(" + glob("numpy", "dtype") + emit(("f8",)) + b"R" + text(b"C", 1, bytes(8)) + b"tR")])

    # Imports, calls and builds, by each opcode that can do so.
    yield "run_global_reduce", b"\x80\x02" + glob("os", "system") + touch + b"R."
    yield "run_posix_reduce", b"\x80\x02" + glob("posix", "system") + touch + b"R."
    yield "run_stack_global", b"\x80\x04\x8c\x02os\x8c\x06system\x93" + touch + b"R."
    yield "run_inst", b"(" + emit("touch " + PROOF) + b"ios\nsystem\n."
    yield "run_obj", b"(" + glob("os", "system") + emit("touch " + PROOF) + b"o."
    yield "run_newobj", b"\x80\x02" + glob("subprocess", "Popen") + touch + b"\x81."
    yield "run_newobj_ex", b"\x80\x04" + glob("subprocess", "Popen") + touch + b"}\x92."
    yield "run_open", b"\x80\x02" + glob("builtins", "open") + write + b"R."
    yield "run_eval", b"\x80\x02" + glob("builtins", "eval") + emit((f"open('{PROOF}', 'w')",)) + b"R."
    yield "run_getattr", b"\x80\x02" + glob("builtins", "getattr") + emit((Raw(glob("os", "path")), "os")) + b"R."
    yield "run_dotted_name", b"\x80\x04\x8c\x05torch\x8c\x11serialization.os.system\x93" + touch + b"R."
    yield "run_torch_load", b"\x80\x02" + glob("torch", "load") + emit((PROOF,)) + b"R."
    yield "run_through_type", b"\x80\x02" + glob("torch._tensor", "_rebuild_from_type_v2") + emit(
        (Raw(glob("os", "system")), Raw(glob("torch", "Tensor")), ("touch " + PROOF,), {})) + b"R."
    yield "run_through_itself", b"\x80\x02" + glob("torch._tensor", "_rebuild_from_type_v2") + emit(
        (Raw(glob("torch._tensor", "_rebuild_from_type_v2")), None, (None, None, (), {}), {})) + b"R."
    yield "namespace_is_its_own_state", (b"\x80\x02" + glob("argparse", "Namespace") + b")\x81"
                                         + b"}(" + b"N" * 32 + b"ub2b.")
    yield "run_build_setstate", b"\x80\x02" + glob("argparse", "Namespace") + b")\x81" + emit({"__class__": 1, "__setstate__": 2}) + b"b."
    yield "run_default_factory", b"\x80\x02" + glob("collections", "defaultdict") + b"(" + glob("os", "system") + b"tR."
    yield "run_extension_registry", b"\x80\x02\x82\x01)R."
    yield "run_persistent_id_text", b"Pmodule\n."
    yield "run_whole_module", pickled(Raw(emit(("module", "x", "y", "z")) + b"Q"))

    for name, length in LENGTHS.items():
        yield f"length_{name}_binunicode", text(b"X", 4, length=length) + b"."
        yield f"length_{name}_binunicode8", text(b"\x8d", 8, length=length) + b"."
        yield f"length_{name}_binbytes8", text(b"\x8e", 8, length=length) + b"."
        yield f"length_{name}_bytearray8", text(b"\x96", 8, length=length) + b"."
        yield f"length_{name}_long4", text(b"\x8b", 4, length=length) + b"."
        yield f"length_{name}_frame", b"\x80\x04\x95" + field(length, 8) + b"N."
        yield f"memo_index_{name}", b"Nr" + field(length, 4) + b"j" + field(length, 4) + b"."
        yield f"text_number_{name}", f"I{length}\n.".encode()

    yield "nested_lists", b"(" * MILLION + b"l" * MILLION + b"."
    yield "nested_tuples", b")" + b"\x85" * MILLION + b"."
    yield "nested_dicts", b"}N" * MILLION + b"N" + b"s" * MILLION + b"."
    yield "nested_appends", b"]" * MILLION + b"a" * (MILLION - 1) + b"."
    yield "nested_calls", (glob("builtins", "tuple") * 20_000) + b")" + b"\x85R" * 20_000 + b"."
    yield "memo_bomb", b"N" + b"\x94" * MILLION + b"."
    yield "memo_laughs", b"]q\0" + b"(h\0h\0h\0h\0tq\0" * 250 + b"."
    yield "memo_recalls", b"(Nq\0" + b"h\0" * MILLION + b"t."
    yield "list_in_itself", b"]q\0h\0a."
    yield "dict_in_itself", b"}q\0Nh\0s."
    yield "copied_list", b"](" + b"N" * 1000 + b"eq\0(" + (glob("builtins", "set") + b"h\0\x85R") * 20_000 + b"l."
    yield "marks", b"(" * MILLION + b"."
    yield "pops", b"0" * MILLION + b"."
    yield "duplicates", b"]" + b"2" * MILLION + b"."
    yield "empty", b""
    yield "no_stop", b"\x80\x02N"
    yield "protocol_255", b"\x80\xffN."
    yield "long_name", b"c" + b"a" * MILLION + b"\nb\n."
    yield "not_utf8", text(b"X", 4, b"\xff\xfe\xc0\x80") + b"."
    yield "overlong_utf8", text(b"\x8c", 1, b"\xe0\x80\x80") + b"."
    yield "surrogate_of_python_2", text(b"U", 1, b"\xed\xa0\x80") + b"."
    yield "good_surrogate", text(b"X", 4, b"\xed\xa0\x80") + b"."
    yield "list_as_key", b"}]Ns."
    yield "tuple_of_dict_as_key", b"}}\x85Ns."
    yield "set_of_lists", b"\x8f(]\x90."
    yield "added_to_frozenset", b"(K\1\x91(K\2\x90."
    yield "two_entries", b"}(X\1\0\0\0aK\1X\1\0\0\0aK\2u."
    yield "whole_model", pickled(Raw(glob("__main__", "Net") + b")\x81" + emit({"_parameters": {}, "_buffers": {}, "_modules": {}}) + b"b"))
    yield "whole_model_legacy", pickled(Raw(emit(("module", Raw(glob("__main__", "Net")), None, None)) + b"Q)\x81"))


# Zip archives


@dataclasses.dataclass
class Entry:
    name: bytes
    content: bytes = b""
    method: int = 0
    flags: int = 0
    lies: dict = dataclasses.field(default_factory=dict)  # of both headers: crc, size, compressed
    local: dict = dataclasses.field(default_factory=dict)  # of the local one
    central: dict = dataclasses.field(default_factory=dict)  # of the directory's
    behind: bytes = b""
    offset: int = None


def deflated(content):
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return machine.compress(content) + machine.flush()


def archive(entries, end=None, before_end=b"", behind=b"", comment=b""):
    end = end or {}
    body, directory = b"", b""
    for entry in entries:
        data = deflated(entry.content) if entry.method == 8 else entry.content
        truth = dict(name=entry.name, flags=entry.flags, method=entry.method, crc=zlib.crc32(entry.content),
                     compressed=len(data), size=len(entry.content), extra=b"")
        offset = len(body) if entry.offset is None else entry.offset

        def header(lies):
            h = {**truth, **entry.lies, **lies}
            return struct.pack("<HHIIIIHH", h["flags"], h["method"], 0, h["crc"] % (1 << 32), h["compressed"] % (1 << 32),
                               h["size"] % (1 << 32), len(h["name"]), len(h["extra"])), h["name"] + h["extra"]

        fixed, names = header(entry.local)
        body += b"PK\3\4\x14\0" + fixed + names + data + entry.behind
        fixed, names = header(entry.central)
        directory += b"PK\1\2\x14\0\x14\0" + fixed + bytes(10) + field(offset, 4) + names
    said = {"entries": len(entries), "size": len(directory), "offset": len(body), "disk": 0, "comment": len(comment), **end}
    record = struct.pack("<HHHHIIH", said["disk"], 0, said["entries"] % 65536, said["entries"] % 65536, said["size"] % (1 << 32),
                         said["offset"] % (1 << 32), said["comment"])
    return body + directory + before_end + b"PK\5\6" + record + comment + behind


def zip64_extra(*numbers):
    return struct.pack("<HH", 1, 8 * len(numbers)) + b"".join(field(number, 8) for number in numbers)


def zip64_end(entries, size, offset, position, record_size=44):
    record = b"PK\6\6" + field(record_size, 8) + bytes(12) + field(entries, 8) * 2 + field(size, 8) + field(offset, 8)
    return record + b"PK\6\7" + bytes(4) + field(position, 8) + field(1, 4)


def zips(good):
    """`good`: the entries of a valid archive; the lies are about the first of them."""

    def first(**lies):
        return [dataclasses.replace(good[0], **lies)] + good[1:]

    yield "good_stored", archive(good)
    yield "good_deflated", archive([dataclasses.replace(entry, method=8) for entry in good])
    yield "good_descriptors", archive([
        dataclasses.replace(entry, flags=8, local=dict(crc=0, size=0, compressed=0),
                            behind=b"PK\7\x08" + struct.pack("<III", zlib.crc32(entry.content), len(entry.content), len(entry.content)))
        for entry in good])
    yield "good_comment", archive(good, comment=b"a comment")
    for name, length in LENGTHS.items():
        yield f"both_sizes_{name}", archive(first(lies=dict(size=length, compressed=length)))
        yield f"local_size_{name}", archive(first(local=dict(size=length, compressed=length)))
        yield f"central_size_{name}", archive(first(central=dict(size=length, compressed=length)))
        yield f"inflated_size_{name}", archive(first(method=8, lies=dict(size=length)))
        yield f"zip64_size_{name}", archive(
            first(lies=dict(size=-1, compressed=-1, extra=zip64_extra(length, length))))
        yield f"end_entries_{name}", archive(good, dict(entries=length))
        yield f"end_offset_{name}", archive(good, dict(offset=length))
        yield f"end_size_{name}", archive(good, dict(size=length))
        yield f"header_offset_{name}", archive(first(offset=length % (1 << 32)))
        plain = archive(good)
        body = plain.index(b"PK\1\2")
        size = len(plain) - 22 - body
        for what, lie in {"entries": (length, size, body), "size": (len(good), length, body), "offset": (len(good), size, length)}.items():
            yield f"zip64_end_{what}_{name}", archive(good, dict(entries=-1, size=-1, offset=-1), zip64_end(*lie, len(plain) - 22))
        yield f"zip64_end_position_{name}", archive(good, dict(entries=-1, size=-1, offset=-1), zip64_end(len(good), size, body, length))
        yield f"zip64_end_length_{name}", archive(
            good, dict(entries=-1, size=-1, offset=-1), zip64_end(len(good), size, body, len(plain) - 22, length))
    yield "wrong_crc", archive(first(lies=dict(crc=1)))
    yield "wrong_crc_local", archive(first(local=dict(crc=1)))
    yield "wrong_crc_deflated", archive(first(method=8, lies=dict(crc=1)))
    yield "duplicate_names", archive(good + [good[0]])
    yield "duplicate_other_content", archive(good + [dataclasses.replace(good[0], content=b"other")])
    yield "overlap_same_data", archive(good + [dataclasses.replace(good[0], name=b"x/other", offset=0)])
    yield "overlap_inside", archive(first(content=archive(good)) + [dataclasses.replace(good[0], offset=30 + len(good[0].name))])
    yield "gap_between", archive(first(behind=b"hidden"))
    yield "bytes_before", b"hidden" + archive(good)
    yield "bytes_behind", archive(good, behind=b"hidden")
    yield "two_ends", archive(good, before_end=archive([])) 
    yield "two_archives", archive(good) + archive(good)
    yield "end_in_comment", archive(good, comment=archive(good))
    yield "encrypted_flag", archive(first(flags=1))
    yield "strong_encryption", archive(first(flags=0x41))
    yield "encrypted_local_flag", archive(first(local=dict(flags=1)))
    yield "split", archive(good, dict(disk=1))
    yield "comment_lies", archive(good, dict(comment=65535))
    for method in (1, 9, 12, 14, 93, 99, 65535):
        yield f"method_{method}", archive(first(lies=dict(method=method)))
    yield "method_differs", archive(first(local=dict(method=8)))
    yield "name_differs", archive(first(local=dict(name=b"x/" + b"y" * (len(good[0].name) - 2))))
    for name in (b"../x", b"x/../../y", b"/etc/passwd", b"C:\\x", b"..\\x", b"", b"x/", b"x\0y", b"\xff\xfe", b"x/" + b"n" * 60_000, b"x//data.pkl", b"./x"):
        label = "".join(chr(c) if chr(c).isalnum() else "_" for c in name[:16])
        yield f"name_{label or 'empty'}", archive(good + [Entry(name, b"1")])
    yield "deflate_bomb", archive(first(method=8, content=bytes(64 << 20)))
    yield "deflate_bomb_lying", archive(first(method=8, content=bytes(64 << 20), lies=dict(size=100)))
    yield "deflate_bomb_many", archive(good + [Entry(b"x/data/%d" % i, bytes(1 << 20), 8) for i in range(100, 164)])
    yield "deflate_garbage", archive(first(content=b"\xff" * 100, lies=dict(method=8)))
    yield "many_entries", archive([Entry(b"x/%d" % i) for i in range(20_000)])
    yield "many_ends", b"PK\3\4" + b"PK\5\6" * 250_000
    yield "many_headers", b"PK\3\4" * 250_000
    yield "empty", archive([])
    yield "extra_field_lies", archive(first(central=dict(extra=struct.pack("<HH", 1, 60_000) + bytes(4))))
    yield "zip64_short", archive(first(lies=dict(size=-1, compressed=-1, extra=struct.pack("<HH", 1, 4) + bytes(4))))
    yield "cut_in_the_middle", archive(good)[: len(archive(good)) // 2]
    yield "cut_before_the_end", archive(good)[:-1]


# Checkpoints


@dataclasses.dataclass
class Storage:
    bytes: bytes
    type: str = "FloatStorage"

    @property
    def numel(self):
        return len(self.bytes) // {"FloatStorage": 4, "LongStorage": 8, "HalfStorage": 2, "DoubleStorage": 8, "ByteStorage": 1}[self.type]


HYPER = {"embed_dim": 4, "num_heads": 2, "num_layers": 1, "num_pixels": 4, "num_vocab": 4, "num_classes": 10}
MODEL = {
    "sos": [4], "token_embeddings.weight": [4, 4], "position_embeddings.weight": [16, 4],
    "layers.0.ln_1.weight": [4], "layers.0.ln_1.bias": [4],
    "layers.0.attn.in_proj_weight": [12, 4], "layers.0.attn.in_proj_bias": [12],
    "layers.0.attn.out_proj.weight": [4, 4], "layers.0.attn.out_proj.bias": [4],
    "layers.0.ln_2.weight": [4], "layers.0.ln_2.bias": [4],
    "layers.0.mlp.0.weight": [16, 4], "layers.0.mlp.0.bias": [16], "layers.0.mlp.2.weight": [4, 16], "layers.0.mlp.2.bias": [4],
    "ln_f.weight": [4], "ln_f.bias": [4], "head.weight": [4, 4], "clf_head.weight": [10, 4], "clf_head.bias": [10],
}


def product(sizes):
    result = 1
    for size in sizes:
        result *= size
    return result


class Checkpoint:
    """A small valid model, to which the callers make changes."""

    def __init__(self):
        self.storages, state = {}, {}
        for key, (name, sizes) in enumerate(MODEL.items()):
            count = product(sizes)
            self.storages[str(key)] = Storage(struct.pack(f"<{count}f", *((i * 7 % 11 - 5) / 16 for i in range(count))))
            state["gpt." + name] = Tensor(str(key), count, sizes)
        self.root = {"epoch": 1, "global_step": 10, "state_dict": state, "hyper_parameters": dict(HYPER)}

    @property
    def state(self):
        return self.root["state_dict"]

    @property
    def hyper(self):
        return self.root["hyper_parameters"]

    def entries(self):
        yield Entry(b"x/data.pkl", pickled(self.root))
        yield Entry(b"x/byteorder", b"little")
        for key, storage in self.storages.items():
            yield Entry(b"x/data/" + key.encode(), storage.bytes)
        yield Entry(b"x/version", b"3\n")

    def zip(self):
        return archive(list(self.entries()))

    def legacy(self, keys=None, system=None, counts=None, protocol=1001, tail=b""):
        ids = emit(self.root).replace(b"tQ", b"NtQ")  # the view of a legacy storage id
        keys = list(self.storages) if keys is None else keys
        head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + pickled(protocol)
        head += pickled(system or {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}})
        body = b"".join(
            field((counts or {}).get(key, storage.numel), 8) + storage.bytes for key, storage in self.storages.items())
        return head + b"\x80\x02" + ids + b"." + pickled(keys) + body + tail


def renamed(checkpoint, *prefixes):
    """Repeats the state dict with each of the prefixes in place of `gpt.`."""
    state = {name.removeprefix("gpt."): tensor for name, tensor in checkpoint.state.items()}
    checkpoint.root["state_dict"] = {prefix + name: tensor for prefix in prefixes for name, tensor in state.items()}


def changed(change):
    checkpoint = Checkpoint()
    change(checkpoint)
    return checkpoint


def contents():
    """Checkpoints in a valid container: (name, change to a good one)."""
    for option in HYPER:
        for label, value in {"0": 0, "minus_1": -1, "2e31": 1 << 31, "2e63": 1 << 63, "2e62": 1 << 62, "1e6": MILLION, "text": "4",
                             "float": 4.0, "none": None, "true": True, "list": [4]}.items():
            yield f"{option}_{label}", lambda c, o=option, v=value: c.hyper.update({o: v})
        yield f"{option}_missing", lambda c, o=option: c.hyper.pop(o)
    yield "heads_do_not_divide", lambda c: c.hyper.update(num_heads=3)
    yield "layers_2_in_hyper_parameters", lambda c: c.hyper.update(num_layers=2)
    yield "all_2e31", lambda c: c.hyper.update({name: 1 << 31 for name in HYPER})
    yield "palette_of_one", lambda c: c.hyper.update(palette=[0])
    yield "palette_not_bytes", lambda c: c.hyper.update(palette=[0, 256, -1, 3])
    yield "palette_of_lists", lambda c: c.hyper.update(palette=[[0], [1], [2], [3]])
    yield "channels_2e31", lambda c: c.hyper.update(palette=[0, 1, 2, 3], channels=1 << 31)
    yield "other_architecture", lambda c: c.hyper.update(arch="image-gpt-2")
    yield "hyper_parameters_list", lambda c: c.root.update(hyper_parameters=[1, 2])
    yield "hyper_parameters_missing", lambda c: c.root.pop("hyper_parameters")
    yield "state_dict_missing", lambda c: c.root.pop("state_dict")
    yield "state_dict_number", lambda c: c.root.update(state_dict=7)
    yield "state_dict_empty", lambda c: c.root.update(state_dict={})
    yield "root_a_list", lambda c: setattr(c, "root", [1])
    yield "root_a_tensor", lambda c: setattr(c, "root", c.state["gpt.sos"])
    yield "global_step_text", lambda c: c.root.update(global_step="ten")
    yield "progress_a_number", lambda c: c.root.update(igpt_progress=7)
    yield "progress_empty", lambda c: c.root.update(igpt_progress={}, optimizer_states=[])
    yield "parameter_missing", lambda c: c.state.pop("gpt.head.weight")
    yield "parameter_surplus", lambda c: c.state.update({"gpt.layers.1.ln_1.weight": c.state["gpt.sos"]})
    yield "parameter_a_number", lambda c: c.state.update({"gpt.sos": 1.0})
    yield "parameter_twice", lambda c: c.root.update(state_dict=Raw(emit(c.state) + b"(" + emit("gpt.sos") + b"K\1u"))
    yield "parameter_twice_in_another_wrapping", lambda c: c.state.update({"gpt._orig_mod.sos": c.state["gpt.sos"]})
    yield "names_of_two_models", lambda c: renamed(c, "a.", "b.")
    yield "names_with_two_prefixes", lambda c: c.state.update({"module.gpt.sos": c.state.pop("gpt.sos")})
    yield "names_of_another_model", lambda c: renamed(c, "encoder.\x1b[2J" + "x" * 900)
    yield "names_of_10e4_models", lambda c: c.root.update(state_dict={f"a{i}.sos": 1 for i in range(10_000)})
    yield "names_nested_500", lambda c: c.root.update(state_dict={"a." * i + "sos": 1 for i in range(500)})
    yield "names_of_dots", lambda c: c.root.update(state_dict={"." * i: 1 for i in range(500)})
    yield "names_of_wrappers", lambda c: c.root.update(state_dict={".".join(["module"] * i): 1 for i in range(140)})
    yield "centroids_twice", lambda c: c.state.update({"centroids": 1, "gpt.centroids": 2})
    yield "hyper_parameters_twice", lambda c: c.root.update(
        hyper_parameters=Raw(emit(c.hyper) + b"(" + emit("embed_dim") + b"K\4u"))
    yield "hyper_parameters_twice_inside", lambda c: c.root.update(
        hyper_parameters={"args": Raw(emit(c.hyper) + b"(" + emit("embed_dim") + b"K\4u")})
    yield "hyper_parameters_of_another_project", lambda c: c.root.update(hyper_parameters={"d_model": 4})
    yield "hyper_parameters_two_below", lambda c: c.root.update(hyper_parameters={"args": {"args": c.hyper}})
    yield "root_a_state_dict", lambda c: setattr(c, "root", c.state)
    yield "parameter_name_control_characters", lambda c: c.state.update({"gpt.\n\x1b[2J": 1.0})
    yield "shape_transposed", lambda c: setattr(c.state["gpt.layers.0.mlp.0.weight"], "sizes", [4, 16])
    yield "shape_flat", lambda c: setattr(c.state["gpt.layers.0.mlp.0.weight"], "sizes", [64])

    def dtype(checkpoint, storage, width, content):
        checkpoint.storages["0"] = Storage(content * 4, storage)
        checkpoint.state["gpt.sos"].storage = storage

    yield "weights_int64", lambda c: dtype(c, "LongStorage", 8, bytes(8))
    yield "weights_bytes", lambda c: dtype(c, "ByteStorage", 1, bytes(1))
    yield "weights_nan", lambda c: dtype(c, "FloatStorage", 4, struct.pack("<f", float("nan")))
    yield "weights_infinite", lambda c: dtype(c, "FloatStorage", 4, struct.pack("<f", float("-inf")))
    yield "weights_half_nan", lambda c: dtype(c, "HalfStorage", 2, b"\0\x7e")
    yield "weights_double_too_large", lambda c: dtype(c, "DoubleStorage", 8, struct.pack("<d", 1e300))

    def sos(**changes):
        return lambda c: c.state.update({"gpt.sos": dataclasses.replace(c.state["gpt.sos"], **changes)})

    yield "numel_overflow", sos(sizes=[1 << 62, 1 << 62], strides=[0, 0])
    yield "numel_wraps_to_4", sos(sizes=[1 << 32, 1 << 32, 4], strides=[0, 0, 1])
    yield "stride_negative", sos(strides=[-1], offset=3)
    yield "stride_overflow", sos(strides=[1 << 62])
    yield "size_negative", sos(sizes=[-4])
    yield "offset_negative", sos(offset=-1)
    yield "offset_2e62", sos(offset=1 << 62)
    yield "view_past_the_storage", sos(sizes=[5])
    yield "view_past_the_storage_by_stride", sos(strides=[2])
    yield "zero_stride_2e40", sos(sizes=[1 << 40], strides=[0])
    yield "zero_stride_many", lambda c: c.root.update(more=[Tensor("0", 4, [1 << 20], [0]) for _ in range(64)])
    yield "dimensions_65", sos(sizes=[1] * 64 + [4])
    yield "strides_too_few", sos(strides=[])
    yield "storage_numel_minus_1", sos(numel=-1)
    yield "storage_numel_2e31", sos(numel=1 << 31)
    yield "storage_numel_2e61", sos(numel=1 << 61)
    yield "storage_numel_2e63", sos(numel=1 << 63)
    yield "storage_as_two_types", lambda c: c.root.update(other=dataclasses.replace(c.state["gpt.sos"], storage="IntStorage"))
    yield "storage_unknown_type", sos(storage="Size")
    yield "storage_missing", sos(key="99")
    yield "storage_name_outside", sos(key="../data.pkl")
    yield "storage_key_long", sos(key="0" * 1000)
    yield "nested_10e6", lambda c: c.root.update(deep=Raw(b"(" * MILLION + b"l" * MILLION))
    yield "memo_bomb", lambda c: c.root.update(memo=Raw(b"N" + b"\x94" * MILLION))
    yield "runs_code", lambda c: c.root.update(code=Raw(glob("os", "system") + emit(("touch " + PROOF,)) + b"R"))


def torch_files():
    good = Checkpoint()
    yield "good_zip", good.zip()
    yield "good_legacy", good.legacy()
    yield "good_deflated", archive([dataclasses.replace(entry, method=8) for entry in good.entries()])
    half = changed(lambda c: (c.storages.update({"0": Storage(bytes(8), "HalfStorage")}), setattr(c.state["gpt.sos"], "storage", "HalfStorage")))
    yield "good_half", half.zip()
    strided = changed(lambda c: c.state.update({"gpt.token_embeddings.weight": Tensor("1", 16, [4, 4], [1, 4])}))
    yield "good_strided", strided.legacy()
    yield "good_wrapped", changed(lambda c: renamed(c, "module._orig_mod.gpt.")).zip()
    yield "good_bare", changed(lambda c: renamed(c, "")).legacy()
    yield "good_args", changed(lambda c: c.root.update(hyper_parameters={"args": c.hyper})).zip()
    yield "good_hparams", changed(lambda c: c.root.update(hparams=c.root.pop("hyper_parameters"))).zip()
    for name, change in contents():
        yield f"{name}_zip", changed(change).zip()
        if not name.startswith(tuple(HYPER)):
            yield f"{name}_legacy", changed(change).legacy()
    entries = list(good.entries())
    for name, content in zips(entries):
        if not name.startswith("good"):
            yield f"container_{name}", content
    yield "container_two_pickles", archive(entries + [Entry(b"y/data.pkl", b"N.")])
    yield "container_without_pickle", archive(entries[1:])
    yield "container_pickle_goes_on", archive([Entry(b"x/data.pkl", pickled({}) + b"N.")])
    yield "container_torchscript", archive(entries + [Entry(b"x/constants.pkl", b").")])
    yield "container_code", archive(entries + [Entry(b"x/code/__torch__.py", b"import os")])
    yield "container_big_endian", archive([Entry(b"x/byteorder", b"big") if e.name == b"x/byteorder" else e for e in entries])
    yield "container_byte_order_unknown", archive([Entry(b"x/byteorder", b"middle\n") if e.name == b"x/byteorder" else e for e in entries])

    keys = list(good.storages)
    for label, number in {**LENGTHS, "3": 3, "5": 5}.items():
        yield f"legacy_count_{label}", good.legacy(counts={"0": number})
    yield "legacy_key_missing", good.legacy(keys=keys[1:])
    yield "legacy_key_surplus", good.legacy(keys=keys + ["99"])
    yield "legacy_key_twice", good.legacy(keys=[keys[0]] * len(keys))
    yield "legacy_keys_no_list", good.legacy(keys={})
    yield "legacy_keys_swapped", good.legacy(keys=keys[::-1])
    yield "legacy_keys_10e5", good.legacy(keys=[str(i) for i in range(100_000)])
    yield "legacy_big_endian", good.legacy(system={"little_endian": False})
    yield "legacy_protocol_2e63", good.legacy(protocol=1 << 63)
    yield "legacy_wrong_magic", good.legacy().replace(b"\x6c\xfc\x9c\x46", b"\x6c\xfc\x9c\x47")
    yield "legacy_bytes_behind", good.legacy(tail=b"hidden")
    yield "legacy_second_file_behind", good.legacy(tail=good.legacy())
    yield "legacy_cut_in_the_middle", good.legacy()[:2000]
    yield "legacy_cut_before_the_end", good.legacy()[:-1]
    for label, view in {"0": ("v", 0, 4), "past": ("v", 1, 4), "minus_1": ("v", -1, 1), "2e62": ("v", 1 << 62, 1 << 62), "short": ("v",)}.items():
        name = f"{'good_legacy_view' if label == '0' else 'legacy_view_' + label}"
        yield name, good.legacy().replace(b"NtQ", emit(view) + b"tQ", 1)
    for name, content in pickles():
        if name.startswith("run_"):
            yield f"{name}_zip", archive([Entry(b"x/data.pkl", content)])
    for name, content in {"empty": b"", "zeros": bytes(4096), "png": b"\x89PNG\r\n\x1a\n" + bytes(100), "gzip": b"\x1f\x8b\x08" + bytes(100),
                          "npy": b"\x93NUMPY\1\0", "idx": b"\0\0\x08\x03" + bytes(100), "html": b"<!DOCTYPE html><html>", "elf": b"\x7fELF" + bytes(100),
                          "safetensors": field(16, 8) + b'{"a":1}' + bytes(9), "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\n",
                          "tar": b"a" + bytes(256) + b"ustar" + bytes(250), "text": b"steps: 300\n", "pickle": pickled({"a": 1})}.items():
        yield f"not_a_checkpoint_{name}", content


# safetensors


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else (header if isinstance(header, str) else compact(header)).encode()
    return field(len(header) if length is None else length, 8) + header + data


def entry(dtype="F32", shape=(4,), begin=0, end=16, **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def twice(name, first, second):
    """A header in which a key is there twice."""
    return "{" + f'"{name}":{compact(first)},"{name}":{compact(second)}' + "}"


def safetensors_files():
    data = struct.pack("<16f", *(i / 16 for i in range(16)))
    model = {"__metadata__": {"format": "pt"}, "b": entry(shape=(2, 4), begin=0, end=32), "a": entry("F16", (16,), 32, 64)}
    yield "good", safetensors(model, data)
    yield "header_alone", compact(model)  # the fuzz target puts the rest around it
    yield "good_padded", safetensors(compact(model) + " " * 5, data)
    yield "good_nothing", safetensors({})
    yield "good_number_and_empty", safetensors({"a": entry(shape=(), end=4), "b": entry(shape=(0, 3), begin=4, end=4)}, data[:4])
    yield "good_all_dtypes", safetensors({dtype: entry(dtype, (8,), 8 * i, 8 * i + 8) for i, dtype in enumerate(
        ("U8", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"))}, data)
    yield "good_sub_bytes", safetensors({"a": entry("F4", (8,), 0, 4), "b": entry("F6_E2M3", (4,), 4, 7), "c": entry("F6_E3M2", (4,), 7, 10)}, data[:10])
    yield "good_nan", safetensors({"a": entry()}, struct.pack("<4f", *[float("nan")] * 4))
    yield "good_not_aligned", safetensors({"a": entry("U8", (1,), 0, 1), "b": entry("F64", (1,), 1, 9)}, data[:9])
    for name, length in {**LENGTHS, "10e8": 100_000_000, "10e8_and_1": 100_000_001, "1": 1}.items():
        yield f"header_length_{name}", safetensors(model, data, length)
        yield f"size_{name}", safetensors({"a": entry(shape=(length,))}, data[:16])
        yield f"size_{name}_squared", safetensors({"a": entry(shape=(length, length, 5))}, data[:16])
        yield f"size_hidden_{name}", safetensors({"a": entry(shape=(0, length, length, length, length), end=1)}, data[:1])
        yield f"begin_{name}", safetensors({"a": entry(begin=length if length else 4)}, data[:16])
        yield f"end_{name}", safetensors({"a": entry(end=length)}, data[:16])
        yield f"both_{name}", safetensors({"a": entry(begin=length, end=length)}, data[:16])
    yield "size_2e48", safetensors({"a": entry(shape=(1 << 48, 0), end=0)})
    yield "sizes_wrap_to_4", safetensors({"a": entry(shape=(1 << 32, 1 << 32, 4))}, data[:16])
    yield "sizes_zero_hides_overflow", safetensors({"a": entry(shape=(0, (1 << 48) - 1, (1 << 48) - 1), end=0)})
    yield "dimensions_65", safetensors({"a": entry(shape=[1] * 64 + [4])}, data[:16])
    yield "dimensions_10e6", safetensors({"a": entry(shape=[1] * MILLION)}, data[:16])
    for dtype in ("", "f32", "float32", "F128", "F32 ", "F32\0", "O", "F" * MILLION):
        yield f"dtype_{dtype.strip()[:8].encode().hex()}_{len(dtype)}", safetensors({"a": entry(dtype)}, data[:16])
    yield "dtype_a_list", safetensors({"a": entry(["F32"])}, data[:16])
    yield "half_a_byte", safetensors({"a": entry("F4", (3,), 0, 1)}, data[:1])
    yield "size_of_another_dtype", safetensors({"a": entry("F64")}, data[:16])
    yield "end_before_begin", safetensors({"a": entry(begin=16, end=0)}, data[:16])
    yield "offsets_missing", safetensors({"a": {"dtype": "F32", "shape": [4]}}, data[:16])
    yield "offsets_three", safetensors({"a": {**entry(), "data_offsets": [0, 16, 16]}}, data[:16])
    yield "offsets_real", safetensors({"a": {**entry(), "data_offsets": [0, 16.0]}}, data[:16])
    yield "offsets_text", safetensors({"a": {**entry(), "data_offsets": ["0", "16"]}}, data[:16])
    yield "offsets_null", safetensors({"a": {**entry(), "data_offsets": None}}, data[:16])
    yield "tensor_a_number", safetensors({"a": 1}, data)
    yield "tensor_null", safetensors({"a": None})
    yield "key_unknown", safetensors({"a": entry(url="http://example.com")}, data[:16])
    yield "key_twice", safetensors(twice("a", entry(), entry()), data[:16])
    yield "key_twice_with_other_offsets", safetensors(twice("a", entry(), entry(begin=16, end=32)), data[:32])
    yield "key_twice_escaped", safetensors('{"a":%s,"\\u0061":%s}' % (compact(entry()), compact(entry(begin=16, end=32))), data[:32])
    yield "key_twice_inside", safetensors('{"a":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}}', data[:16])
    yield "metadata_twice", safetensors(twice("__metadata__", {"format": "pt"}, {"format": "tf"}))
    yield "metadata_key_twice", safetensors('{"__metadata__":{"format":"pt","format":"tf"}}')
    yield "metadata_of_numbers", safetensors({"__metadata__": {"step": 1}})
    yield "metadata_nested", safetensors({"__metadata__": {"a": {"b": "c"}}})
    yield "metadata_a_tensor", safetensors({"__metadata__": entry()}, data[:16])
    yield "metadata_null", safetensors({"__metadata__": None})
    yield "metadata_10e6", safetensors({"__metadata__": {str(i): "" for i in range(300_000)}})
    yield "overlap", safetensors({"a": entry(), "b": entry(begin=8, end=24)}, data[:24])
    yield "overlap_same", safetensors({"a": entry(), "b": entry()}, data[:16])
    yield "overlap_empty_inside", safetensors({"a": entry(), "b": entry(shape=(0,), begin=8, end=8)}, data[:16])
    yield "hole_in_front", safetensors({"a": entry(begin=4, end=20)}, data[:20])
    yield "hole_between", safetensors({"a": entry(), "b": entry(begin=20, end=36)}, data[:36])
    yield "hole_behind", safetensors({"a": entry()}, data[:17])
    yield "data_missing", safetensors(model, data[:-1])
    yield "data_none", safetensors(model)
    yield "data_of_no_tensor", safetensors({}, data)
    yield "second_file_behind", safetensors(model, data) * 2
    yield "zip_behind", safetensors(model, data) + archive([Entry(b"x/data.pkl", pickled({}))])
    yield "space_in_front", safetensors(" " + compact(model), data)
    yield "newline_behind", safetensors(compact(model) + "\n", data)
    yield "zero_behind", safetensors(compact(model) + "\0", data)
    yield "zero_and_more_behind", safetensors(compact(model) + "\0}", data)
    yield "two_objects", safetensors(compact(model) * 2, data)
    yield "byte_order_mark", safetensors("\ufeff" + compact(model), data)
    yield "utf16", safetensors(compact(model).encode("utf-16-le"), data)
    yield "list", safetensors([model], data)
    yield "not_utf8", safetensors(b'{"\xff":%s}' % compact(entry()).encode(), data[:16])
    yield "overlong_utf8", safetensors(b'{"\xc0\x80":%s}' % compact(entry()).encode(), data[:16])
    yield "surrogate", safetensors('{"\\ud800":%s}' % compact(entry()), data[:16])
    yield "name_long", safetensors({"n" * MILLION: entry()}, data[:16])
    yield "name_control_characters", safetensors({"\n\x1b[2J": entry(end=12)}, data[:16])
    yield "tensors_10e6", safetensors({str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(101_000)})
    yield "nested", safetensors('{"a":' + "[" * MILLION)
    yield "nested_objects", safetensors('{"a":' * 200_000 + "}" * 200_000)
    yield "spaces", safetensors("{" + " " * MILLION)
    for size in range(18):
        yield f"cut_at_{size}", safetensors(model, data)[:size]


# JSON


def jsons():
    yield "good_config", json.dumps({
        "activation_function": "quick_gelu", "architectures": ["ImageGPTForCausalImageModeling"], "layer_norm_epsilon": 1e-5, "model_type": "imagegpt", "n_embd": 512,
        "n_head": 8, "n_inner": None, "n_layer": 24, "n_positions": 1024, "reorder_and_upcast_attn": False, "scale_attn_weights": True, "vocab_size": 513}, indent=2)
    yield "good_preprocessor", json.dumps({"clusters": [[i / 8 - 1, 0.5, -1] for i in range(16)], "do_normalize": True, "resample": 2, "size": {"height": 32, "width": 32}})
    yield "good_escapes", '{"\\u0061\\n\\ud83d\\ude00": "\\/\\b\\f\\t", "é": "\u00e9"}'
    yield "good_numbers", "[0, -0, -1, 1e5, 1E-5, 0.1, 9223372036854775807, -9223372036854775808, 18446744073709551616, 5e-324]"
    yield "good_scalar", " 1 "
    yield "good_byte_order_mark", "\ufeff{}"
    for name, opening in {"lists": "[", "objects": '{"a":', "mixed": '[{"a":'}.items():
        yield f"nested_{name}", opening * MILLION
    yield "nested_closed", "[" * 1000 + "]" * 1000
    yield "key_twice", '{"a": 1, "a": 2}'
    yield "key_twice_escaped", '{"a": 1, "\\u0061": 2}'
    yield "key_twice_deep", '[{"b": {"a": 1, "c": 2, "a": 1}}]'
    yield "keys_10e5", compact({str(i): 0 for i in range(250_000)})
    yield "key_long", compact({"k" * MILLION: 1})
    yield "values_10e6", "[" + "0," * MILLION + "0]"
    yield "lists_10e6", "[" + "[]," * MILLION + "0]"
    yield "text_long", '"' + "x" * (5 * MILLION) + '"'
    yield "number_long", "[" + "1" * (4 * MILLION) + "]"
    yield "number_too_large", "[1e999]"
    for name, content in {"empty": "", "comma": "[1,]", "comma_object": '{"a": 1,}', "comment": "// a\n1", "single_quotes": "{'a': 1}", "python": "{'a': None, 'b': True}",
                          "nan": "[NaN]", "infinity": "[-Infinity]", "plus": "[+1]", "octal": "[01]", "hexadecimal": "[0x10]", "point": "[.5]", "cut_text": '["abc',
                          "cut_escape": '["\\u00', "cut_word": "[tru", "lines": '{"a": 1}\n{"a": 2}', "newline_in_text": '["\n"]', "surrogate": '["\\ud800"]',
                          "surrogates_swapped": '["\\ude00\\ud83d"]', "zero_behind": "{}\0", "zero_and_more_behind": "{}\0{}"}.items():
        yield f"not_json_{name}", content
    yield "not_utf8", b'["\xff\xfe"]'
    yield "overlong_utf8", b'["\xc0\x80"]'
    yield "utf16", '{"a": 1}'.encode("utf-16-le")
    yield "binary", bytes(range(256)) * 16


# Checkpoints as safetensors, and the texts beside those of transformers


def model_file(settings, change=lambda tensors: None, key="igpt"):
    tensors, offset, data = {}, 0, b""
    for name, sizes in sorted(MODEL.items()):
        count = product(sizes)
        tensors["gpt." + name] = entry(shape=sizes, begin=offset, end=offset + 4 * count)
        data += struct.pack(f"<{count}f", *((i * 7 % 11 - 5) / 16 for i in range(count)))
        offset += 4 * count
    change(tensors)
    text = settings if isinstance(settings, str) else compact(settings)
    return safetensors({"__metadata__": {"format": "pt", key: text}, **tensors}, data)


def model_files():
    good = {"epoch": 1, "global_step": 10, "hyper_parameters": HYPER}

    def with_hyper(**changes):
        return model_file({**good, "hyper_parameters": {**HYPER, **changes}})

    yield "good", model_file(good)
    yield "good_without_counters", model_file({"hyper_parameters": HYPER})
    yield "key_missing", model_file(good, key="other")
    for name, text in {"empty": "", "not_json": "{", "list": "[]", "number": "1", "twice": '{"hyper_parameters":{},"hyper_parameters":{}}',
                       "no_hyper_parameters": "{}", "hyper_parameters_null": '{"hyper_parameters":null}', "long": " " * 5_000_000 + "{}",
                       "deep": '{"hyper_parameters":' + "[" * 100_000 + "]" * 100_000 + "}"}.items():
        yield f"settings_{name}", model_file(text)
    for name, value in {"text": "1", "real": 1.5, "minus_1": -1, "2e63": 1 << 63, "list": [1]}.items():
        yield f"global_step_{name}", model_file({**good, "global_step": value})
        yield f"embed_dim_{name}", with_hyper(embed_dim=value)
    for name, value in {"2e31": 1 << 31, "0": 0, "1e6": MILLION, "object": {"a": 1}}.items():
        yield f"num_layers_{name}", with_hyper(num_layers=value)
    for name, value in {"of_one": [0], "of_texts": ["0"] * 4, "of_lists": [[0]] * 4, "of_objects": [{}] * 4, "10e5": [0] * 190_000}.items():
        yield f"palette_{name}", with_hyper(palette=value)
    yield "arch_unknown", with_hyper(arch="x\n\x1b[2J")

    def rename(tensors):
        tensors["gpt.other"] = tensors.pop("gpt.sos")

    yield "weight_missing", model_file(good, rename)
    yield "weight_transposed", model_file(good, lambda tensors: tensors["gpt.clf_head.weight"].update(shape=[4, 10]))
    yield "weight_of_integers", model_file(good, lambda tensors: tensors["gpt.sos"].update(dtype="I32"))
    yield "weight_of_sub_bytes", model_file(good, lambda tensors: tensors["gpt.sos"].update(dtype="F4", shape=[32]))
    yield "weight_infinite", model_file(good)[:-4] + struct.pack("<f", float("inf"))


CONFIG = {"model_type": "imagegpt", "activation_function": "quick_gelu", "n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 16,
          "vocab_size": 6, "scale_attn_by_inverse_layer_idx": True}


def configs():
    yield "good", compact(CONFIG)
    for key in ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size"):
        for name, value in {**LENGTHS, "text": "8", "real": 8.5, "list": [8], "object": {}, "true": True, "1e6": MILLION, "2e30": 1 << 30}.items():
            yield f"{key}_{name}", compact({**CONFIG, key: value})
    for key in ("model_type", "activation_function"):
        for name, value in {"number": 1, "list": ["imagegpt"], "long": "x" * MILLION, "control": "\n\x1b[2J"}.items():
            yield f"{key}_{name}", compact({**CONFIG, key: value})
    yield "model_type_missing", compact({key: value for key, value in CONFIG.items() if key != "model_type"})
    yield "epsilon_text", compact({**CONFIG, "layer_norm_epsilon": "1e-5"})
    yield "epsilon_huge", compact(CONFIG)[:-1] + ',"layer_norm_epsilon":1e999}'
    yield "flag_number", compact({**CONFIG, "scale_attn_weights": 1})
    yield "list", compact([CONFIG])
    yield "empty", ""
    yield "deep", "[" * 100_000
    yield "long", " " * 5_000_000
    yield "key_twice", compact(CONFIG)[:-1] + ',"n_layer":3}'
    yield "not_utf8", compact(CONFIG).encode()[:-1] + b',"a":"\xff"}'


def clusters():
    colours = [[i / 5, 0, -i / 5] for i in range(5)]
    yield "good", compact({"clusters": colours})
    yield "good_more_keys", compact({"clusters": colours, "size": {"height": 4}, "other": None})
    for name, value in {"number": 1, "text": "x", "object": {}, "empty": [], "of_numbers": [0.5] * 5, "of_pairs": [[0, 1]] * 5,
                        "of_texts": [["0"] * 3] * 5, "of_empty": [[]] * 5, "equal": [[0.5, 0, 0]] * 5, "four": colours[:4],
                        "six": colours + [[1, 1, 1]], "too_large": colours[:4] + [[2, 0, 0]], "huge": colours[:4] + [[1e300, 0, 0]],
                        "10e6": [[0, 0, 0]] * MILLION}.items():
        yield f"clusters_{name}", compact({"clusters": value})
    yield "infinite", '{"clusters":[[1e999,0,0]]}'
    yield "not_a_number", '{"clusters":[[NaN,0,0]]}'
    yield "list", "[]"


# Arrays


def npy(header, values=b"", version=(1, 0), length=None):
    header = header.encode() if isinstance(header, str) else header
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + bytes(version) + field(len(header) if length is None else length, width) + header + values


def npy_header(shape="(2, 4, 4)", dtype="|u1", order="False"):
    return "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (dtype, order, shape)


def npys():
    values = bytes(i % 4 for i in range(32))
    yield "good_uint8", npy(npy_header(), values)
    yield "good_int64", npy(npy_header(dtype="<i8"), b"".join(field(v, 8) for v in values))
    yield "good_big_endian", npy(npy_header(dtype=">i2"), b"".join(bytes([0, v]) for v in values))
    yield "good_bool", npy(npy_header(dtype="|b1"), bytes(v % 2 for v in values))
    yield "good_version_2", npy(npy_header(), values, (2, 0))
    yield "good_version_3", npy(npy_header(), values, (3, 0))
    yield "good_float64", npy(npy_header("(4,)", "<f8"), bytes(32))
    yield "good_labels", npy(npy_header("(2,)"), b"\0\1")
    yield "good_scalar", npy(npy_header("()"), b"\3")
    yield "good_python_2", npy("{'descr': u'|u1', 'fortran_order': False, 'shape': (2L, 4L, 4L), }", values)
    yield "good_dtype_name", npy(npy_header(dtype="uint8"), values)
    yield "good_native", npy(npy_header(dtype="=B"), values)
    yield "good_tabs", npy("{'descr':\t'|u1',\r\n'fortran_order':\tFalse,\f'shape':\t(2,\t4,\t4)}", values)
    yield "long_in_version_3", npy(npy_header("(2L, 4L, 4L)"), values, (3, 0))
    yield "long_twice", npy(npy_header("(2LL, 4, 4)"), values)
    yield "pixels_in_0_to_1", npy(npy_header(dtype="<f4"), struct.pack("<32f", *(i / 31 for i in range(32))))
    yield "pixels_float16", npy(npy_header(dtype="<f2"), bytes(64))
    yield "pixels_bool", npy(npy_header(dtype="|b1"), bytes(i % 2 for i in range(32)))
    yield "fortran_order", npy(npy_header(order="True"), values)
    for name, length in LENGTHS.items():
        yield f"header_length_{name}", npy(npy_header(), values, length=length)
        yield f"header_length_{name}_version_2", npy(npy_header(), values, (2, 0), length)
        yield f"shape_{name}", npy(npy_header(f"({length}, 4, 4)"), values)
        yield f"shape_{name}_squared", npy(npy_header(f"({length}, {length})"), values)
        yield f"shape_hidden_{name}", npy(npy_header(f"(0, {length}, {length}, {length})"))
    yield "shape_wraps_to_32", npy(npy_header(f"({1 << 32}, {1 << 32}, 32)"), values)
    yield "shape_2e64", npy(npy_header(f"({1 << 64},)"), values)
    yield "shape_33_dimensions", npy(npy_header("(" + "1, " * 33 + ")"), b"\0")
    yield "shape_10e4_dimensions", npy(npy_header("(" + "1, " * 10_000 + ")"), b"\0")
    yield "shape_a_number", npy(npy_header("5"), b"\0" * 5)
    yield "shape_text", npy(npy_header("('2', 4)"), values)
    yield "shape_nested", npy(npy_header("(" * 10_000 + ")" * 10_000), values)
    yield "shape_nested_10e6", npy(npy_header("(" * MILLION + ")" * MILLION), values, (2, 0))
    yield "values_missing", npy(npy_header(), values[:-1])
    yield "values_none", npy(npy_header())
    yield "values_surplus", npy(npy_header(), values + b"\0")
    yield "tokens_255", npy(npy_header(), b"\xff" * 32)
    yield "tokens_negative", npy(npy_header(dtype="|i1"), b"\xff" * 32)
    yield "images_none", npy(npy_header("(0, 4, 4)"))
    yield "images_flat", npy(npy_header("(2, 16)"), values)
    yield "images_oblong", npy(npy_header("(2, 2, 8)"), values)
    yield "images_of_no_pixels", npy(npy_header("(1000000000000, 0, 0)"))
    yield "version_0", npy(npy_header(), values, (0, 0))
    yield "version_255", npy(npy_header(), values, (255, 255))
    for name, dtype in {"object": "|O", "text": "<U4", "float16": "<f2", "complex": "<c8", "date": "<M8[s]", "unknown": "", "long": "<i" + "8" * 10_000,
                        "void": "|V1", "int0": "<i0", "no_order": "i8", "pipe_int64": "|i8"}.items():
        yield f"dtype_{name}", npy(npy_header(dtype=dtype), values)
    yield "dtype_records", npy("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (8,), }", values)
    for name, header in {"empty": "", "not_closed": npy_header()[:-2], "keys_missing": "{}", "key_twice": npy_header()[:-1] + "'shape': (2, 4, 4)}",
                         "key_unknown": npy_header()[:-1] + "'x': 1}", "quote_open": "{'descr", "behind": npy_header() + "x",
                         "code": "__import__('os').system('touch %s')" % PROOF, "spaces": " " * 60_000}.items():
        yield f"header_{name}", npy(header, values)
    yield "header_binary", npy(bytes(range(256)), values)
    yield "cut_in_magic", b"\x93NUM"
    yield "cut_in_length", b"\x93NUMPY\1\0\x10"
    yield "cut_in_header", npy(npy_header(), values)[:30]
    yield "empty", b""
    yield "text", b"1 2 3\n"
    yield "zip", archive([Entry(b"arr_0.npy", npy(npy_header(), values))])


def idx(shape, values=b"", kind=8, dimensions=None):
    return bytes([0, 0, kind, len(shape) if dimensions is None else dimensions]) + b"".join(struct.pack(">I", n % (1 << 32)) for n in shape) + values


def idxs():
    images = bytes(range(32))
    yield "good_images", idx([2, 4, 4], images)
    yield "good_labels", idx([4], bytes(4))
    yield "good_none", idx([0])
    for name, length in {"0": 0, "minus_1": -1, "2e31": 1 << 31}.items():
        for axis in range(3):
            shape = [2, 4, 4]
            shape[axis] = length
            yield f"size_{name}_axis_{axis}", idx(shape, images)
    yield "sizes_overflow", idx([-1, -1, -1, -1], images)
    yield "sizes_wrap_to_32", idx([1 << 31, 1 << 31, 4, 32], images)
    yield "sizes_zero_hides_overflow", idx([0, -1, -1, -1])
    for dimensions in (0, 5, 255):
        yield f"dimensions_{dimensions}", idx([2] * min(dimensions, 8), images, dimensions=dimensions)
    for kind in (0, 9, 11, 12, 13, 14, 255):
        yield f"type_{kind}", idx([2, 4, 4], images, kind)
    yield "values_missing", idx([2, 4, 4], images[:-1])
    yield "values_surplus", idx([2, 4, 4], images + b"\0")
    yield "first_bytes_1", b"\1\1" + idx([2, 4, 4], images)[2:]
    for size in range(16):
        yield f"cut_at_{size}", idx([2, 4, 4], images)[:size]
    yield "html", b"<html>Log in to the network</html>"


def gzip_member(content, flags=0, optional=b"", crc=None, length=None, method=8, level=9):
    machine = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = machine.compress(content) + machine.flush()
    header = b"\x1f\x8b" + bytes([method, flags]) + bytes(4) + b"\2\xff" + optional
    return header + data + field(zlib.crc32(content) if crc is None else crc, 4) + field(len(content) if length is None else length, 4)


def gzips():
    content = idx([2, 4, 4], bytes(range(32)))
    good = gzip_member(content)
    zeros = gzip_member(bytes(16 << 20))
    yield "good", good
    yield "good_two_members", gzip_member(content[:20]) + gzip_member(content[20:])
    yield "good_name", gzip_member(content, 8, b"images\0")
    yield "good_extra", gzip_member(content, 4, b"\4\0abcd")
    yield "good_stored", gzip_member(content, level=0)
    yield "good_empty", gzip_member(b"")
    yield "bomb_16_mib", zeros
    yield "bomb_1_gib", zeros * 64
    yield "bomb_of_bombs", gzip_member(zeros * 64)
    yield "members_empty_10e5", gzip_member(b"") * 100_000
    for name, length in LENGTHS.items():
        yield f"length_{name}", gzip_member(content, length=length)
        yield f"extra_length_{name}", gzip_member(content, 4, field(length, 2))
    yield "wrong_crc", gzip_member(content, crc=1)
    yield "wrong_crc_second_member", good + gzip_member(content, crc=1)
    yield "name_without_end", gzip_member(content, 8, b"n" * MILLION)
    yield "reserved_flags", gzip_member(content, 0xE0)
    yield "method_7", gzip_member(content, method=7)
    yield "header_crc_wrong", gzip_member(content, 2, b"\0\1")
    yield "garbage_behind", good + b"garbage"
    yield "good_zeros_behind", good + bytes(512)
    yield "zeros_and_garbage_behind", good + bytes(100_000) + b"x"
    yield "zeros_and_a_member_behind", good + bytes(512) + good
    yield "deflate_garbage", good[:10] + b"\xff" * 100
    yield "distance_too_far", good[:10] + b"\x4b\x04\x02\xff\xff"
    for size in range(len(good)):
        yield f"cut_at_{size}", good[:size]


# Pictures

GREY_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeX"
    "BkeFxlZ2P/wAALCAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABAMH/8QAIBAAAQMCBwAAAAAAAAAAAAAAAgABAwQRBRIiQVFSwf/aAAgB"
    "AQAAPwDP1enpZJ3uzZR7P4mU+HgFil1lxsmr/9k=")
PROGRESSIVE_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeX"
    "BkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wgARCAAQ"
    "ABADAREAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAwIF/8QAFwEAAwEAAAAAAAAAAAAAAAAAAQIDAP/aAAwDAQACEAMQAAABxqyYrZZ13/"
    "/EABcQAAMBAAAAAAAAAAAAAAAAAAABAhH/2gAIAQEAAQUCUmCkUn//xAAZEQACAwEAAAAAAAAAAAAAAAAAAQIREjH/2gAIAQMBAT8BchKzNdHI"
    "/8QAGBEBAQEBAQAAAAAAAAAAAAAAEQAxAQL/2gAIAQIBAT8BXLnkkly//8QAFBABAAAAAAAAAAAAAAAAAAAAIP/aAAgBAQAGPwIf/8QAGRAAAg"
    "MBAAAAAAAAAAAAAAAAABEBIVFh/9oACAEBAAE/IdbIYZ01s//aAAwDAQACAAMAAAAQn8//xAAXEQEBAQEAAAAAAAAAAAAAAAABAEEh/9oACAED"
    "AQE/EFyWA6i5f//EABgRAAMBAQAAAAAAAAAAAAAAAAABESEx/9oACAECAQE/EKaBHQ0TCmg//8QAGRAAAgMBAAAAAAAAAAAAAAAAAAERIVFB/9"
    "oACAEBAAE/EFK7s4PDmhKWCld2cP/Z")
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAC/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlwZH"
    "hcZWdj/9sAQwEREhIYFRgvGhovY0I4QmNjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj/8AAFAgAEAAQ"
    "BAERAAIRAQMRAQQRAP/EABcAAAMBAAAAAAAAAAAAAAAAAAECAwb/xAAoEAABAwEGBQUAAAAAAAAAAAABAhEhAAMEBRIxQSJRgZHBJGFxsfD/xA"
    "AUAQEAAAAAAAAAAAAAAAAAAAAA/8QAIBEAAQMEAgMAAAAAAAAAAAAA8AABITFBUcERcWGh0f/aAA4EAQACEQMRBAAAPwDSrvY45BGozKf6/Gkt"
    "UPTeU7C72oyzSLply5RKWIKUO4OkK7gdTQVezLEh5DAJneaQYKZq8Jx8NNZpdEXZOV2SQOJJJKwRvI2n5UYEVUYIpyTetS8WbeaATdA0pDG0gI"
    "9LmKHDrtXg9OevOlOBKIi8gF3mzfzQN6Swd5TIx5KVAm6kgHa1Yt26ew0r/9k=")


def png_chunk(kind, content=b"", length=None, crc=None):
    sum_of_both = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content) if length is None else length) + kind + content + struct.pack(">I", sum_of_both)


def png(width, height, depth=8, colour=0, rows=b"", before=b"", interlaced=0, header=None):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced) if header is None else header
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")


def images():
    rows = b"".join(b"\0" + bytes(range(8 * y, 8 * y + 8)) for y in range(8))
    good = png(8, 8, rows=rows)
    palette = png_chunk(b"PLTE", bytes(range(48)))
    yield "good_grey", good
    yield "good_rgb", png(4, 2, colour=2, rows=(b"\0" + bytes(range(12))) * 2)
    yield "good_16_bits", png(2, 2, 16, 6, (b"\0" + bytes(range(16))) * 2)
    yield "good_one_bit", png(8, 2, 1, 0, b"\0\x55" * 2)
    yield "good_palette", png(8, 2, 4, 3, b"\0\x01\x23\x45\x67" * 2, palette + png_chunk(b"tRNS", b"\0\x80"))
    yield "good_interlaced", png(3, 2, rows=b"\0\x0a\0\x1e\0\x14\0\x28\x32\x3c", interlaced=1)
    yield "good_gamma", png(8, 8, rows=rows, before=png_chunk(b"gAMA", struct.pack(">I", 100_000)))
    yield "good_ancillary_crc", png(8, 8, rows=rows, before=png_chunk(b"tEXt", b"a\0b", crc=1))
    yield "good_jpeg", GREY_JPEG
    yield "good_jpeg_progressive", PROGRESSIVE_JPEG
    exif = b"Exif\0\0II*\0\x08\0\0\0"
    for name, content in {"turned": exif + b"\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", "entries_65535": exif + b"\xff\xff",
                          "outside": b"Exif\0\0MM\0*\xff\xff\xff\xff", "empty": b"Exif\0\0"}.items():
        yield f"good_jpeg_exif_{name}", GREY_JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + GREY_JPEG[2:]
    yield "jpeg_cmyk", CMYK_JPEG
    frame = GREY_JPEG.index(b"\xff\xc0") + 5
    frames = {"0": (0, 0), "60000": (60_000, 60_000), "65535": (65_535, 65_535), "8000": (8000, 8000), "other": (24, 16)}
    for name, (height, width) in frames.items():
        yield f"jpeg_size_{name}", GREY_JPEG[:frame] + struct.pack(">HH", height, width) + GREY_JPEG[frame + 4:]
    yield "jpeg_scans_10e4", PROGRESSIVE_JPEG[:-2] + PROGRESSIVE_JPEG[PROGRESSIVE_JPEG.rindex(b"\xff\xda"):-2] * 10_000 + b"\xff\xd9"
    sizes = {"0": (0, 0), "0_wide": (8, 0), "60000": (60_000, 60_000), "2e31": ((1 << 31) - 1,) * 2, "2e32": ((1 << 32) - 1,) * 2, "8000": (8000, 8000)}
    for name, (width, height) in sizes.items():
        yield f"png_size_{name}", png(width, height, 16, 6, rows)
    yield "png_bomb_1_gib", png(30_000, 30_000, 8, 2, bytes(100 << 20))
    yield "png_rows_too_few", png(8, 8, rows=rows[:-1])
    yield "png_depth_3", png(8, 8, 3, 0, rows)
    yield "png_colour_5", png(8, 8, 8, 5, rows)
    yield "png_palette_missing", png(8, 8, 8, 3, rows)
    yield "png_palette_index", png(8, 8, 8, 3, rows, png_chunk(b"PLTE", b"abcd"))
    yield "png_header_short", png(8, 8, rows=rows, header=b"\0\0\0\x08")
    yield "png_header_twice", png(8, 8, rows=rows, before=good[8:33])
    yield "png_filter_9", png(1, 1, rows=b"\x09\0")
    yield "png_crc_of_header", good[:29] + b"\0\0\0\0" + good[33:]
    yield "png_crc_of_pixels", good[:-16] + b"\0\0\0\0" + good[-12:]
    yield "png_without_end", good[:-12]
    yield "png_unknown_critical", png(8, 8, rows=rows, before=png_chunk(b"ABCD"))
    for name, length in LENGTHS.items():
        yield f"png_chunk_length_{name}", png(8, 8, rows=rows, before=png_chunk(b"tEXt", b"a\0b", length=length % (1 << 32)))
    for name, content in {"empty": b"", "gif": b"GIF89a" + bytes(100), "html": b"<html>", "signature": good[:8], "jpeg_start": b"\xff\xd8\xff"}.items():
        yield f"not_a_picture_{name}", content
    for kind, content in {"png": good, "jpeg": GREY_JPEG, "progressive": PROGRESSIVE_JPEG}.items():
        for size in range(1, len(content) - 2):
            yield f"cut_at_{size}_{kind}", content[:size]


# Tar archives


def tar(*entries, file_format=tarfile.USTAR_FORMAT):
    """Of (name, content) or (name, type, link)."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=file_format) as archive_of_tar:
        for name, *rest in entries:
            info = tarfile.TarInfo(name)
            if isinstance(rest[0], bytes) and len(rest) == 1:
                info.size = len(rest[0])
                archive_of_tar.addfile(info, io.BytesIO(rest[0]))
            else:
                info.type, info.linkname = rest
                archive_of_tar.addfile(info)
    return output.getvalue()


def tars():
    good = tar(("a/b.bin", bytes(700)), ("c", b"text"))
    yield "good", good
    yield "good_gzip", gzip.compress(good, mtime=0)
    yield "good_pax", tar(("ü" * 100, b"x"), file_format=tarfile.PAX_FORMAT)
    yield "good_gnu", tar(("n" * 300, b"x"), file_format=tarfile.GNU_FORMAT)
    yield "good_links", tar(("link", tarfile.SYMTYPE, "../../x"), ("hard", tarfile.LNKTYPE, "/etc/passwd"), ("device", tarfile.CHRTYPE, ""), ("folder", tarfile.DIRTYPE, ""))
    for name, path in {"parent": "../x", "inner": "a/../../x", "absolute": "/x", "dots": ".."}.items():
        yield f"outside_{name}", tar((path, b"x"))
    yield "bomb_of_zeros", gzip.compress(tar(("a", bytes(16 << 20))), mtime=0)
    for name, size in {"most": b"77777777777", "no_number": b"99999999999", "negative": b"\xff" * 11, "base_256": b"\x80" + b"\x7f" * 10}.items():
        header = bytearray(good[:512])
        header[124:135] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        yield f"size_{name}", bytes(header) + good[512:]
    yield "wrong_sum", good[:148] + b"0000000\0" + good[156:]
    yield "pax_length", good.replace(b"a/b.bin", b"x/b.bin").replace(b"\x000\0", b"\0x\0", 1)
    for kind in (b"x", b"L", b"K", b"g"):
        info = tarfile.TarInfo("h")
        info.type, info.size = kind, 8
        yield f"headers_of_headers_{kind.decode()}", (info.tobuf(tarfile.USTAR_FORMAT) + b"8 a=bcd\n".ljust(512, b"\0")) * 1000 + good
    yield "entries_10e4", gzip.compress(good[1536:2560] * 10_000, mtime=0)
    for size in (1, 100, 511, 513, 1000, 1300):
        yield f"cut_at_{size}", good[:size]
    for size in (1, 10, 20, 60):
        yield f"cut_gzip_at_{size}", gzip.compress(good, mtime=0)[:size]
    for name, content in {"empty": b"", "zip": b"PK\3\4" + bytes(100), "cpio": b"070701" + bytes(200), "text": b"text" * 200}.items():
        yield f"not_a_tar_{name}", content


# YAML

DATASET = """dataset: fashion
image_size: 4
dtype: uint8
classes: [T-shirt/top, Trouser]
palette:
  channels: 1
  colours: [0, 85, 170, 255]
raw_sha256:
  train-images-idx3-ubyte: c59f
sha256:
  train_x.npy: 0123
made_by: igpt 0.1.0
"""


def laughs(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def yamls():
    yield "good_dataset", DATASET
    yield "good_options", "steps: 100\nlearning_rate: 1e-3\nname: 'x'\nclassify: true\nindices: [1, 2]\n"
    yield "good_flow", "{steps: 100, name: \"x\\u00e9\"}"
    yield "good_comments", "# nothing\n---\nsteps: 1 # one\n...\n"
    for name, opening in {"brackets": "[", "braces": "{", "brace_keys": "{a: ", "dashes": "- ", "questions": "? ", "brackets_lines": "[\n", "mixed": "[{",
                          "brace_brackets": "{[", "keys": "[a, "}.items():
        yield f"nested_{name}", opening * MILLION
        yield f"nested_{name}_in_a_value", "steps: " + opening * 100_000
        yield f"nested_{name}_short", opening * 20_000
    yield "nested_closed", "[" * 100_000 + "]" * 100_000
    yield "nested_by_indent", "".join(" " * i + "a:\n" for i in range(600))
    yield "nested_by_indent_of_dashes", "".join(" " * i + "-\n" for i in range(600))
    yield "laughs", laughs(9)
    yield "alias_of_itself", "a: &a [*a]\n"
    yield "alias_unknown", "steps: *nothing\n"
    yield "anchors_10e5", "".join(f"- &a{i} x\n" for i in range(20_000))
    yield "aliases_10e5", "- &a x\n" + "- *a\n" * 50_000
    yield "anchor_everywhere", "&a &b &c steps: 1\n"
    yield "merge_keys", "a: &a {x: 1}\nb:\n  <<: *a\n"
    yield "tags", "!!python/object/apply:os.system ['touch %s']\n" % PROOF
    yield "tag_bomb", "!<" + "a" * 200_000 + "> x\n"
    yield "tag_verbatim_open", "!<tag"
    yield "directives", "%YAML 1.2\n" * 20_000 + "---\na: 1\n"
    yield "directive_version", "%YAML 99999999999999999999.9\n---\na: 1\n"
    yield "documents_10e5", "---\n" * 60_000
    yield "keys_twice", "steps: 1\nsteps: 2\n"
    yield "keys_10e5", "".join(f"k{i}: 1\n" for i in range(20_000))
    yield "key_long", "k" * 250_000 + ": 1\n"
    yield "key_of_lists", "? [a, b]\n: 1\n"
    yield "key_null", "~: 1\n: 2\n"
    yield "value_long", "name: " + "v" * 250_000 + "\n"
    yield "value_control_characters", "name: \"\\n\\e[2J\\0\"\n"
    yield "value_of_lines", "name: |\n  a\n  b\nsteps: >-\n  1\n  2\n"
    yield "numbers_2e63", "steps: 9223372036854775808\nlearning_rate: 1e999\n"
    yield "numbers_nan", "learning_rate: .nan\nsteps: .inf\n"
    yield "quotes_open", "name: \"" + "a" * 200_000
    yield "quotes_10e5", "'" * 200_000
    yield "escapes_10e5", "name: \"" + "\\x41" * 50_000 + "\"\n"
    yield "escape_unknown", "name: \"\\q\\xZZ\\U99999999\"\n"
    yield "spaces", " " * 250_000
    yield "newlines", "\n" * 250_000
    yield "tabs", "\t" * 10_000 + "a: 1\n"
    yield "comment_long", "#" * 250_000
    yield "colons", ": " * 100_000
    yield "commas", "[" + "," * 100_000
    yield "ampersands", "&" * 100_000
    yield "stars", "*" * 100_000
    yield "exclamations", "!" * 100_000
    yield "question_lines", "?\n" * 100_000
    yield "pipes", "a: |\n" * 10_000
    yield "block_indents", "a: |9\n" + " " * 100_000
    yield "empty", ""
    yield "zeros", "\0" * 1000
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield f"encoded_{encoding}", ("\ufeff" + DATASET).encode(encoding)
    yield "utf16_cut", b"\xff\xfea\0:\0 \0\x00\xd8"
    yield "not_utf8", b"a: \xff\xfe\xc0\x80\n"
    yield "binary", bytes(range(256)) * 16


def dataset_yamls():
    yield "good_dataset", DATASET
    yield "laughs_in_dataset", DATASET.replace("classes: [T-shirt/top, Trouser]", laughs(9) + "classes: *a8")
    yield "image_size_2e63", DATASET.replace("image_size: 4", "image_size: 9223372036854775808")
    yield "image_size_a_list", DATASET.replace("image_size: 4", "image_size: [4]")
    yield "palette_10e5", DATASET.replace("255]", "255" + ", 0" * 50_000 + "]")
    yield "palette_negative", DATASET.replace("255]", "-1]")
    yield "palette_channels_0", DATASET.replace("channels: 1", "channels: 0")
    yield "palette_a_list", DATASET.replace("palette:\n  channels: 1\n  colours:", "palette:\n  - 1\n  -")
    binary = DATASET.replace("channels: 1", "channels: 3").replace("[0, 85, 170, 255]", '!!binary "' + "AQID" * 300 + '"')
    yield "palette_binary_not_whole", binary.replace("AQID", "AQ==", 1)
    yield "palette_binary_other_letters", binary.replace("AQID", "\\x00?", 1)
    yield "palette_binary_1_mb", binary.replace("AQID", "AQID" * 800)
    yield "palette_binary_without_end", binary[: binary.index("AQID") + 400]
    yield "palettes_binary_10e4", binary + 'x: !!binary ""\n' * 10_000
    yield "palette_binary_unquoted", binary.replace('"', "")
    yield "sums_a_list", DATASET.replace("sha256:\n  train_x.npy:", "sha256:\n  -")
    yield "sums_outside", DATASET.replace("train_x.npy", "../../x")
    for name, content in yamls():
        if name in ("laughs", "nested_brackets", "nested_braces", "keys_10e5", "not_utf8", "empty", "binary") or name.startswith("encoded_"):
            yield name, content


def checkpoints():
    """Changes to a good checkpoint, as tests/fuzz/checkpoint_fuzz.cc reads them."""
    yield "good_unchanged", b""
    for kind in range(10):
        for step in range(4):
            yield f"changes_{kind}_{step}", bytes(byte for place in range(step, 256, 32) for byte in (place, 0, kind, 37 * place % 256))


# Sparse files: large, but taking no space on the disk


def large(folder):
    size = 4 << 30
    good = Checkpoint()
    starts = {"zeros.ckpt": b"", "zip.ckpt": b"PK\3\4", "zip_cut.ckpt": good.zip(), "legacy.ckpt": b"\x80\2", "legacy_zeros_behind.ckpt": good.legacy(),
              "legacy_cut.ckpt": good.legacy()[:3000], "zeros.npy": b"", "npy_lies.npy": npy(npy_header()),
              "header_of_zeros.safetensors": field(100_000_000, 8) + b"{", "data_of_zeros.safetensors": safetensors({"a": entry()}),
              "zeros.yaml": b"", "zeros.gz": b"\x1f\x8b\x08"}
    for name, start in starts.items():
        with open(folder / name, "wb") as file:
            file.write(start)
            file.truncate(size)
    # A few weights in a storage of 4 GiB, and otherwise valid.
    good.storages["0"] = good.storages.pop("0")
    good.state["gpt.sos"].numel = 1 << 30
    with open(folder / "small_part.ckpt", "wb") as file:
        content = good.legacy(counts={"0": 1 << 30})
        file.write(content)
        file.truncate(len(content) - 16 + size)


METRICS = "step,epoch,train_loss,learning_rate,val_loss,val_acc\n"


def run_files():
    yield "good_metrics", METRICS + "50,0,1.5,0.01,,\n100,0,,,1.25,\n"
    yield "good_lightning", "val_acc,step,epoch,val_loss\r\n0.5,10,0,\r\n,20,0,nan\r\n"
    yield "good_cut", METRICS + "50,0,1.5,0.01,,\n100,0,,"
    yield "state", json.dumps({"state": "failed", "step": 7, "reason": "no space left"})
    yield "settings", "name: a\nsteps: 200\nbatch_size: 16\naccumulate: 2\nclassify: false\n"
    yield "settings_huge", "steps: 99999999999999999999\nbatch_size: -1\n"
    yield "empty", ""
    yield "without_step", "epoch,val_loss\n0,1\n"
    yield "short_row", METRICS + "50,0,1.5\n100,0,,,1.25,\n"
    yield "long_row", METRICS + "50,0,1.5,0.01,,,,\n"
    yield "text", METRICS + "50,0,one,0.01,,\n"
    yield "zeros", METRICS.encode() + bytes(4096) + b"\n50,0,1.5,0.01,,\n"
    yield "commas", METRICS + "," * MILLION + "\n"
    yield "columns", "step" + ",a" * MILLION + "\n"
    yield "numbers", METRICS + "9223372036854775808,0,1e999,0.01,-inf,1e-999\n"
    yield "state_nested", '{"state":' * 100_000


# Verdicts

# Read although the name does not start with good_: unusual, but valid.
READ = {
    "torch_file": {"container_name_ÿþ"},  # of an entry that nobody looks for
    "npy": {"pixels_bool"},
    "tar": {"bomb_of_zeros", "entries_10e4"},  # the limits are the reader's
    "yaml": {"empty", "value_control_characters"},  # of a value that the command line replaces
    "dataset": {"sums_outside"} | {f"encoded_{encoding}" for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")},
}
# Valid files of their format that the programs refuse because of their content.
REFUSED = {
    "npy": {"good_float64", "good_labels", "good_scalar"},
    "yaml": {"good_dataset", "good_options"},
}


def verdict(kind, name):
    if name in READ.get(kind, ()):
        return "read"
    return "read" if name.startswith("good") and name not in REFUSED.get(kind, ()) else "refused"


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1])
    storages = [Entry(b"x/data.pkl", pickled(Tensor("0", 8, [8]))), Entry(b"x/byteorder", b"little"), Entry(b"x/data/0", bytes(32))]
    kinds = {"pickle": pickles(), "zip": zips(storages), "torch_file": torch_files(), "checkpoint": checkpoints(),
             "safetensors": safetensors_files(), "model": model_files(), "config": configs(), "clusters": clusters(), "json": jsons(), "npy": npys(), "idx": idxs(), "gzip": gzips(),
             "image": images(), "tar": tars(),
             "yaml": yamls(), "dataset": dataset_yamls(), "runs": run_files()}
    for kind, files in kinds.items():
        shutil.rmtree(root / kind, ignore_errors=True)  # an older version may have given other verdicts
        for name, content in files:
            file = root / kind / verdict(kind, name) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
    (root / "large/refused").mkdir(parents=True, exist_ok=True)
    large(root / "large/refused")


if __name__ == "__main__":
    main()
