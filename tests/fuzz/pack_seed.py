#!/usr/bin/env python3
"""Pack a sealed file as fuzz.h has it: the index, and the content of datasets up to LIMIT bytes.

    pack_seed.py FILE.h5 SEED [LIMIT]
"""
import struct
import sys

ALIGN, SIZES = 4096, {1: 1, 2: 2, 3: 4, 4: 8, 5: 4, 6: 8, 7: 4, 8: 8}
path, seed = sys.argv[1:3]
limit = int(sys.argv[3]) if len(sys.argv) > 3 else 8192
data = open(path, 'rb').read()
block, = struct.unpack_from('<Q', data, 16)
index_bytes, datasets, attributes = struct.unpack_from('<QII', data, 48)
index = bytearray(data[64:64 + index_bytes])

# The content is packed anew, without what HDF5 has between the datasets.
at, end, runs = 0, ALIGN, b''
for _ in range(datasets):
    length, = struct.unpack_from('<I', index, at)
    at += 4 + length + 1
    kind, rank = struct.unpack_from('<II', index, at)
    at += 8 + 8 * rank
    offset, size = struct.unpack_from('<QQ', index, at)
    if size:
        struct.pack_into('<Q', index, at, end)
        if size <= limit:
            start = block + offset
            runs += struct.pack('<IH', end, size) + data[start:start + size]
        end += (size + ALIGN - 1) // ALIGN * ALIGN
    at += 32
head = struct.pack('<IIII', datasets, attributes, index_bytes, end)
open(seed, 'wb').write(head + bytes(index) + runs)
