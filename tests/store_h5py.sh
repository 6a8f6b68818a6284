#!/bin/sh
# h5py reads our files, and duo_store_seal takes in or refuses, by name, what h5py writes.
# Usage: store_h5py.sh STORE_SAMPLE. Exit status 77: skipped.
. "$(dirname "$0")/common.sh"
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import h5py' 2>/dev/null || skip "$python has no h5py"
SAMPLE=$(realpath "$1") || exit 1
export SAMPLE
enter_folder
"$python" - <<'END'
import os, subprocess
import h5py
import numpy as np

def run(*args):
    done = subprocess.run([os.environ["SAMPLE"], *args], capture_output=True, text=True)
    return done.returncode, done.stderr

def works(*args):
    code, said = run(*args)
    assert code == 0, (args, said)

def refused(part, *args):
    code, said = run(*args)
    assert code == 1 and said.count("\n") == 1 and part in said, (args, part, said)

# Ours, read by h5py.
works("write", "ours.h5")
with h5py.File("ours.h5") as f:
    assert f.userblock_size == 65536
    floats, tokens = f["/a/b/floats"], f["/train/tokens"]
    assert floats.dtype == "<f4" and tokens.dtype == "<u2"
    want = np.array([[1.5, -2.25, 3], [0, 1e-20, 7]], "f4")
    assert (floats[()] == want).all() and tokens[()].tolist() == [0, 1, 65535, 7]
    assert floats.id.get_offset() % 4096 == 0
    assert f["/train"].attrs["count"] == 2**64 - 1 and f["/train"].attrs["count"].dtype == "u8"
    assert tokens.attrs["share"] == 0.1
    assert f.attrs["kind"].decode() == "tokens" and f.attrs["place"].decode() == "zürich"
    assert f.attrs["empty"] == b""

# Edited by h5py: the seal is broken, and a new one can be had.
with h5py.File("ours.h5", "r+") as f:
    f["/a/b/floats"][0, 0] = 9
refused("ours.h5: ", "open", "ours.h5")
works("seal", "ours.h5", "ours.h5")
works("open", "ours.h5")
with h5py.File("ours.h5") as f:
    assert f["/a/b/floats"][0, 0] == 9

# Written by h5py, in every form that is taken in.
arrays = {name: np.arange(24).reshape(2, 3, 4).astype(name)
          for name in ["u1", "u2", "u4", "u8", "i4", "i8", "f4", "f8", ">f4", ">u8", ">i4"]}
with h5py.File("theirs.h5", "w") as f:
    f.attrs["kind"] = "routes"
    f.attrs["text"] = "zürich"
    f.attrs["bytes"] = np.bytes_(b"fixed")
    f.attrs["small"] = np.int8(5)
    f.attrs["half"] = np.float16(0.5)
    f.create_group("empty").attrs["n"] = 3
    for name, array in arrays.items():
        f["plain/" + name] = array
        f.create_dataset("packed/" + name, data=array, chunks=(1, 2, 3), compression="gzip",
                         shuffle=True, fletcher32=True)
    f.create_dataset("none", (0, 3), "f4")
works("seal", "theirs.h5", "sealed.h5")
works("open", "sealed.h5")
with h5py.File("sealed.h5") as f:
    for name, array in arrays.items():
        for group in "plain", "packed":
            assert (f[group][name][()] == array).all() and f[group][name].chunks is None
    assert f["none"].shape == (0, 3) and f["empty"].attrs["n"] == 3
    assert f.attrs["text"].decode() == "zürich" and f.attrs["bytes"] == b"fixed"
    assert f.attrs["small"] == 5 and f.attrs["half"] == 0.5

# What is refused, by name.
def compact(f):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(f.id, b"x", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4,)), plist)

def virtual(f):
    layout = h5py.VirtualLayout(shape=(24,), dtype="u1")
    layout[:] = h5py.VirtualSource("theirs.h5", "plain/u1", shape=(24,))
    f.create_virtual_dataset("x", layout)

def cycle(f):
    group = f.create_group("g")
    group["x"] = group

def root_again(f):
    f["x"] = f["/"]

def set_item(name, value):
    def put(f):
        f[name] = value
    return put

def set_attribute(value):
    def put(f):
        f.attrs["x"] = value
    return put

def deep(f):
    f.create_group("/x" * 40)

bad = {
    "compact": (compact, "/x: its layout"),
    "virtual": (virtual, "/x: its layout"),
    "cycle": (cycle, "/g"),
    "root again": (root_again, "more than one name"),
    "soft link": (set_item("x", h5py.SoftLink("/y")), "/x: a soft or external link"),
    "external link": (set_item("x", h5py.ExternalLink("theirs.h5", "/")), "/x: a soft"),
    "external data": (lambda f: f.create_dataset("x", (4,), "u1", external=[("raw", 0, 4)]),
                      "/x: its data lies in another file"),
    "two names": (lambda f: f.update(y=f.create_dataset("x", (4,), "u1")), "more than one name"),
    "scalar": (set_item("x", 5), "/x: its rank"),
    "rank 5": (set_item("x", np.zeros((1,) * 5)), "/x: its rank"),
    "half": (set_item("x", np.zeros(4, "f2")), "/x: its type"),
    "int8": (set_item("x", np.zeros(4, "i1")), "/x: its type"),
    "bool": (set_item("x", np.zeros(4, "?")), "/x: its type"),
    "strings": (set_item("x", ["a", "b"]), "/x: its type"),
    "compound": (set_item("x", np.zeros(4, "u1,f4")), "/x: its type"),
    "named type": (set_item("x", np.dtype("f4")), "/x: neither a group"),
    "deep": (deep, "too deep"),
    "array attribute": (set_attribute([1, 2]), "attribute x of /: not a scalar"),
    "negative": (set_attribute(-1), "attribute x of /: a negative"),
    "bool attribute": (set_attribute(True), "attribute x of /: neither"),
    "not UTF-8": (set_attribute(np.bytes_(b"\xff")), "attribute x of /: a text that is not UTF-8"),
    "too large": (lambda f: f.create_dataset("x", (1 << 40,), "u1", chunks=(1 << 20,)), "/x: no memory"),
    "overflow": (lambda f: f.create_dataset("x", (1 << 62,), "f4", chunks=(1024,)), "/x: its shape"),
    "kind": (lambda f: f.attrs.__setitem__("kind", "sonnet"), "its attribute kind"),
    "no kind": (lambda f: f.attrs.__delitem__("kind"), "its attribute kind"),
}
for what, (spoil, said) in bad.items():
    with h5py.File("bad.h5", "w") as f:
        f.attrs["kind"] = "probe"
        spoil(f)
    refused(said, "seal", "bad.h5", "out.h5")
    assert not [name for name in os.listdir() if name.startswith("out.h5")], what
END
