"""Writes the .case files: launches of the kernels in cuda/*.cu with what a host computation expects of them.

The PTX beside them was made by `nvcc -ptx -arch=compute_80 cuda/NAME.cu -o NAME.ptx` (CUDA 13) and by Numba.
"""
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
U32, U64 = 0xFFFFFFFF, (1 << 64) - 1


def s32(x): return (x & U32) - ((x & 0x80000000) << 1)


class Cases:
    def __init__(self, name):
        self.name, self.lines = name, []

    def case(self, name, kernel, grid, block, params, expect, shared=0, extra=()):
        """params: ("name", type, values) is a buffer, (type, value) is passed by value."""
        out = self.lines
        out.append(f"case {name}")
        out.append(f"kernel {kernel}")
        out.append("grid " + " ".join(map(str, (list(grid) + [1, 1])[:3])))
        out.append("block " + " ".join(map(str, (list(block) + [1, 1])[:3])))
        if shared: out.append(f"shared {shared}")
        for p in params:
            if len(p) == 3: out.append(f"buffer {p[0]} {p[1]} " + " ".join(map(str, p[2])))
            else: out.append(f"value {p[0]} " + " ".join(map(str, p[1] if isinstance(p[1], (list, bytes)) else [p[1]])))
        for name, ty, values in expect: out.append(f"expect {name} {ty} " + " ".join(map(str, values)))
        out.extend(extra)
        out.append("")

    def write(self):
        (HERE / f"{self.name}.case").write_text("\n".join(self.lines))


c = Cases("basics")
a, b = [i * 0.5 for i in range(40)], [100.0 - i for i in range(40)]
c.case("vector_add_with_a_ragged_end", "vector_add", [2], [32], [("a", "f32", a), ("b", "f32", b), ("c", "f32", [7] * 48), ("i32", 40)],
       [("c", "f32", [x + y for x, y in zip(a, b)] + [7] * 8)])
n = 20
a, b = [(i * 7 % 5) - 2 for i in range(n * n)], [(i * 3 % 7) - 3 for i in range(n * n)]
c.case("matrix_product_with_tiles_that_overhang", "matrix_product", [2, 2], [16, 16],
       [("a", "f32", a), ("b", "f32", b), ("c", "f32", [0] * (n * n)), ("i32", n)],
       [("c", "f32", [sum(a[r * n + k] * b[k * n + q] for k in range(n)) for r in range(n) for q in range(n)])])
v = [i * i - 50 for i in range(100)]
c.case("sum_in_dynamic_shared_memory", "sum_shared", [2], [64], [("in", "i32", v), ("out", "i32", [0, 0]), ("i32", 100)],
       [("out", "i32", [sum(v[:64]), sum(v[64:])])], shared=256)
c.case("sum_by_shuffles_and_an_atomic", "sum_shuffle", [2], [64], [("in", "i32", v), ("out", "i32", [5]), ("i32", 100)],
       [("out", "i32", [5 + sum(v)])])
v = [(i * i + 3 * i) % 256 for i in range(1000)]
c.case("histogram_in_shared_memory", "histogram", [3], [64], [("in", "u8", v), ("bins", "u32", [0] * 256), ("i32", 1000)],
       [("bins", "u32", [v.count(i) for i in range(256)])])
c.write()

c = Cases("memory")
w, pc = [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5]
c.case("constants_with_initial_values", "constants", [1], [16], [("out", "f32", [0] * 16)],
       [("out", "f32", [w[i % 8] * 1.5 + 2.5 + pc[i % 5] for i in range(16)])])
t = [[1, 2, 3], [4, 5, 6]]
c.case("globals_that_hold_addresses_of_others", "globals", [1], [8], [("out", "i32", [0] * 8), ("text", "u8", [0] * 8)],
       [("out", "i32", [t[i % 2][i % 3] + 5 + 7 for i in range(8)]), ("text", "u8", [ord(["first", "second"][i % 2][i % 5]) for i in range(8)])])
v, n = [(i * 5 + 1) % 40 for i in range(24)], 24
def local_sum(tid):
    spill = [v[(i + tid) % n] for i in range(32)]
    s = 0
    for i in range(n): s = s * 3 + spill[v[i] & 31]
    return s32(s)
c.case("arrays_in_local_memory", "locals", [1], [32], [("in", "i32", v), ("out", "i32", [0] * 32), ("i32", n)],
       [("out", "i32", [local_sum(i) for i in range(32)])])
words = [i * 11 for i in range(12)]
pair = list(struct.pack("<f4xd5b3x", 1.5, 40.25, 9, 8, 7, 6, 5))
c.case("structs_by_value_indexed_at_run_time", "by_value", [1], [8], [("i32", words), ("bytes", pair), ("out", "i32", [0] * 8), ("i32", 3)],
       [("out", "i32", [words[3 + i] + 40 + 6 for i in range(8)])])
f4 = [i * 0.25 for i in range(32)]
i2 = list(range(16))
e = []
for i in range(8): x, y, z, q = f4[4 * i:4 * i + 4]; e += [x + q, y * 2, z - 1, q]
c.case("wide_loads_and_stores", "wide", [1], [8], [("in", "f32", f4), ("out", "f32", [0] * 32), ("in2", "i32", i2), ("out2", "i32", [0] * 16)],
       [("out", "f32", e), ("out2", "i32", [i2[i ^ 1] for i in range(16)])])
for which, kind in enumerate(["global", "shared", "local"]):
    g = [100 + i for i in range(4)] + [0] * 28
    src = [g[:4], [0, 1, 2, 3], [which + i for i in range(4)]][which]
    bias = [4, 1, 2][which]
    # Of global memory the first four threads overwrite what the others read: they read the same element of their own.
    if which == 0: continue
    c.case(f"generic_addresses_in_{kind}_memory", "generic", [1], [32], [("global", "i32", g), ("i32", which)],
           [("global", "i32", [src[i & 3] + bias for i in range(32)])])
a8, b16 = [-3, 100, -128, 127, 0, 5, -1, 64], [1, 65535, 3, 500, 7, 8, 65535, 2]
c.case("bytes_are_sign_extended", "bytes", [1], [8], [("a", "i8", a8), ("b", "u16", b16), ("out", "i64", [0] * 8)],
       [("out", "i64", [((x * y) & ((1 << 56) - 1) | (x & 255) << 56) - ((x & 128) << 57) for x, y in zip(a8, b16)])])
c.write()

c = Cases("control")
def calls(i, n):
    f = 1.0 * i + 0.5
    tag = i + 1
    y = 2.0 * i * tag + 1
    r = f + y + 3.0 + tag + (i & 7) * 8
    return r * n + 1 if i % 3 == 0 else r
c.case("functions_with_structs_and_pointers", "calls", [1], [16], [("out", "f32", [0] * 16), ("i32", 3)], [("out", "f32", [calls(i, 3) for i in range(16)])])
c.case("virtual_functions", "virtuals", [1], [8], [("out", "f32", [0] * 8)], [("out", "f32", [(1 + 2 * (i & 1)) * i * i for i in range(8)])])
c.case("functions_through_pointers_in_memory", "pointers", [1], [8], [("out", "i32", [0] * 8)], [("out", "i32", [i * 3 if i & 1 else i + 3 for i in range(8)])])
c.case("printf_formats_its_arguments", "prints", [1], [4], [("i32", 2)], [], extra=["prints thread 0 of block: 0.000000\\nthread 1 of block: 1.500000\\n"])
c.case("a_failed_assertion_ends_the_launch", "prints", [1], [1], [("i32", 100)], [], extra=["traps assert"])
c.case("memory_from_the_device_heap", "heap", [1], [8], [("out", "i32", [0] * 8)], [("out", "i32", [2 * i for i in range(8)])])
c.write()

c = Cases("warp")
x = [(i * 5) % 11 - 2 for i in range(32)]
def lanes(i):
    r = x[i ^ 3] + (x[i - 2] if i >= 2 else x[i]) + x[i ^ 8] + (x[i + 1] if i % 8 < 7 else x[i])
    r += s32(sum(1 << j for j in range(32) if x[j] > 3)) + all(y > 0 for y in x) + any(y > 9 for y in x)
    xor = 0
    for y in x: xor ^= y
    r += sum(x) + max(x) + xor
    r += sum(1 << j for j in range(32) if x[j] == x[i])
    if i & 1: r += 16
    return s32(r)
c.case("shuffles_votes_matches_and_reductions", "lanes", [1], [32], [("in", "i32", x), ("out", "i32", [0] * 32)], [("out", "i32", [lanes(i) for i in range(32)])])
y = [(i * 7) % 13 - 3 for i in range(96)]
k = sum(v > 0 for v in y) + 1000 * all(v > 0 for v in y) + 2000 * any(v > 5 for v in y)
c.case("barriers_that_count", "counts", [1], [96], [("in", "i32", y), ("out", "i32", [0] * 96)], [("out", "i32", [k] * 96)])
f = [i * 0.5 for i in range(256)]
c.case("asynchronous_copies", "pipeline", [1], [64], [("in", "f32", f), ("out", "f32", [0] * 256)],
       [("out", "f32", [f[4 * (63 - i // 4) + i % 4] for i in range(256)])])
g = [i % 7 for i in range(64)]
def groups(i):
    t = g[i - i % 8:i - i % 8 + 8]
    def down(vals, o): return [vals[j] + (vals[j + o] if j + o < 8 else vals[j]) for j in range(8)]
    for o in (4, 2, 1): t = down(t, o)
    return t[i % 8] + 32 + i // 8
c.case("tiles_of_cooperative_groups", "groups", [1], [64], [("in", "i32", g), ("out", "i32", [0] * 64)], [("out", "i32", [groups(i) for i in range(64)])])
def half(v): return struct.unpack("<H", struct.pack("<e", v))[0]
ma, mb = [(i * 3 % 7) - 3 for i in range(256)], [(i * 5 % 9) - 4 for i in range(256)]
c.case("matrices_of_halves_by_wmma", "tensor", [1], [32], [("a", "u16", [half(v) for v in ma]), ("b", "u16", [half(v) for v in mb]), ("c", "f32", [0] * 256)],
       [("c", "f32", [sum(ma[r * 16 + k] * mb[q * 16 + k] for k in range(16)) for r in range(16) for q in range(16)])])
n = 64
i0 = [0, 0, 50, -5, 0] + [0] * 196
u0 = [0, 0, 0xFF, 0, 0]
c.case("atomics_of_every_type", "atomics", [1], [n], [("i", "i32", i0), ("u", "u32", u0), ("f", "f32", [0]), ("d", "f64", [0]), ("l", "u64", [0, 0])],
       [("u", "u32", [n % 11, (10 - (n - 1)) % 11, 0, 63, 0]), ("f", "f32", [1.5 * n]), ("d", "f64", [2.5 * n]), ("l", "u64", [3 * n, n - 1])])
c.write()

c = Cases("barrier")
v = [i * 3 for i in range(256)]
c.case("a_barrier_object_in_shared_memory", "barr", [1], [256], [("a", "i32", v)], [("a", "i32", v[::-1])])
c.write()

c = Cases("grid")
c.case("a_cooperative_grid_waits_for_all_blocks", "grid_sum", [6], [32], [("parts", "i32", [0] * 6), ("out", "i32", [0] * 192)],
       [("out", "i32", [21 + i % 32 for i in range(192)]), ("parts", "i32", [0] * 6)], extra=["cooperative"])
c.write()

c = Cases("simd")
xs = [0x01FF7F80, 0xDEADBEEF, 0, 0xFFFFFFFF, 0x80000000, 0x12345678, 77, 0x7FFFFFFF]
ys = [0x02807F01, 0x01020304, 5, 0x80808080, 0xFFFFFFFF, 0x87654321, 0xFFFFFFF9, 3]
def lanes_of(v, bits): return [(v >> s) & ((1 << bits) - 1) for s in range(0, 32, bits)]
def pack(vs, bits): return sum((v & ((1 << bits) - 1)) << (bits * j) for j, v in enumerate(vs))
def sx(v, bits): return v - ((v >> (bits - 1) & 1) << bits)
def quot(p, q): return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)
rows = [[] for _ in range(17)]
for x, y in zip(xs, ys):
    bx, by, hx, hy = lanes_of(x, 8), lanes_of(y, 8), lanes_of(x, 16), lanes_of(y, 16)
    rows[0].append(pack([abs(p - q) for p, q in zip(bx, by)], 8))
    rows[1].append(pack([p + q for p, q in zip(bx, by)], 8))
    rows[2].append(pack([max(sx(p, 8), sx(q, 8)) for p, q in zip(bx, by)], 8))
    rows[3].append(sum(abs(p - q) for p, q in zip(bx, by)))
    rows[4].append(pack([(p + q + 1) >> 1 for p, q in zip(hx, hy)], 16))
    all8 = bx + by
    rows[5].append(pack([all8[s] for s in (0, 4, 1, 5)], 8))
    rows[6].append(((y << 32 | x) << (y & 31)) >> 32 & U32)
    rows[7].append((5 + sum(sx(p, 8) * sx(q, 8) for p, q in zip(bx, by))) & U32)
    rev = int(f"{x:032b}"[::-1], 2)
    rows[8].append(rev ^ (32 - y.bit_length()) ^ (bin(x).count("1") << 8) ^ ((y & -y).bit_length() << 16))
    sd = s32(y) | 1
    q = quot(s32(x), sd)
    rows[9].append((q + s32(x) - q * sd) & U32)
    rows[10].append(x // (y | 1) ^ x % (y | 1))
    rows[11].append(((s32(x) * s32(y) >> 32) + (x * y >> 32)) & U32)
    p = ((x << 32 | y) * (y << 32 | x) - x) % (1 << 128)
    rows[12].append(p >> 64 & U32); rows[13].append(p >> 96); rows[14].append(p >> 7 & U32)
    rows[15].append(sx(x >> 5 & 511, 9) & U32)
    rows[16].append(y & ~(0xFFF << 4) | (x & 0xFFF) << 4)
c.case("integers_of_every_width", "simd", [1], [8], [("a", "u32", xs), ("b", "u32", ys), ("out", "u32", [0] * (17 * 8))],
       [("out", "u32", [v for r in rows for v in r])])
c.write()

c = Cases("recursion")
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
def ackermann(m, n):
    if m == 0: return n + 1
    return ackermann(m - 1, 1 if n == 0 else ackermann(m, n - 1))
def up(n, a): return a if n <= 0 else s32(down(n - 1, s32(a * 3 + n)) - a)
def down(n, a): return s32(-a) if n <= 0 else s32(up(n - 2, a ^ n) + 2 * a)
for name, grid, block in [("whole_warps", [2], [64]), ("rows_of_eight", [1], [8, 5, 2]), ("a_ragged_warp", [3], [37])]:
    threads = grid[0] * block[0] * (block[1] * block[2] if len(block) > 1 else 1)
    if len(block) > 1: threads = block[0]  # The kernel counts along x alone: all rows write the same.
    c.case(f"numbers_in_{name}", "numbers", grid, block, [("out", "i32", [0] * 3 * threads)],
           [("out", "i32", [v for i in range(threads) for v in
                            (fibonacci(i % 11), ackermann(i % 3, i % 5), up(i % 13, i) if i % 2 else down(i % 7, i))])], extra=["stack 4096"])
def climb(links, depth, seed):
    links = [s32(seed * 31 + depth)] + links
    below = climb(links, depth - 1, seed + (3 if seed & 1 else 5)) if depth > 0 else 0
    total = 0
    for value in links: total = s32(total * 3 + value)
    return total ^ below
c.case("pointers_to_variables_of_callers", "links", [1], [50], [("out", "i32", [0] * 50)],
       [("out", "i32", [climb([], i % 6, i) for i in range(50)])], extra=["stack 2048"])
def signed(x, bits): return (x & ((1 << bits) - 1)) - ((x >> (bits - 1) & 1) << bits)
def pair(a, b, c): return signed(a, 64), signed(b, 16), signed(c, 8)
def spread(p, flip, n):
    if n == 0: return p
    q = spread(pair(p[0] * 3, p[1] + n, p[2] ^ n), not flip, n - 1)
    r = spread(pair(q[0] - p[0], q[1] - n, p[2]), flip, n // 2) if flip else q
    return pair(q[0] + r[0], r[1] * 3 + q[1], r[2] + q[2] + flip)
c.case("structures_and_narrow_values", "pairs", [1], [48], [("out", "i64", [0] * 144)],
       [("out", "i64", [v for i in range(48) for v in spread(pair(i, i, i), bool(i & 1), i % 6)])], extra=["stack 4096"])
v = [(i * 37 + 11) % 101 for i in range(128)]
shared, levels, width = v[:], 0, 64
while width:
    for i in range(width): shared[i] += shared[i + width]
    width //= 2
for k in range(7): levels = levels * 2 + (shared[1 << k] & 1)
c.case("barriers_at_every_depth", "folds", [1], [128], [("in", "i32", v), ("out", "i32", [0, 0])],
       [("out", "i32", [shared[0], levels])], extra=["stack 1024"])
def deep(n): return 1 + n * (n + 1) // 2
c.case("as_deep_as_the_stack_allows", "depths", [1], [32], [("out", "i32", [0] * 32), ("i32", 100)],
       [("out", "i32", [deep(100)] * 32)], extra=["stack 6400"])
c.case("deeper_than_the_stack_allows", "depths", [1], [32], [("out", "i32", [0] * 32), ("i32", 1000000)],
       [], extra=["stack 6400", "traps stack"])
c.write()
