"""Writes matrix.ptx and matrix.case: products and moves of matrices that a warp holds.

Where elements lie is taken from the PTX manual, section 9.7.14.5 "Matrix Fragments for mma.…" (one subsection a shape, whose
formulas stand below as they stand there) and "ldmatrix", "stmatrix", "movmatrix". All values and sums are exact.
"""
import struct

from make import HERE, Cases

G, T = lambda lane: lane >> 2, lambda lane: lane & 3  # groupID and threadID_in_group


# kind and depth → (elements of a in a lane, row, column), (elements of b, row); of b the column is always groupID.
A, B = {}, {}
A["16", 8] = 4, lambda g, i: g if i < 2 else g + 8, lambda t, i: t * 2 + (i & 1)
B["16", 8] = 2, lambda t, i: t * 2 + (i & 1)
A["16", 16] = 8, lambda g, i: g if 0 <= i < 2 or 4 <= i < 6 else g + 8, lambda t, i: t * 2 + (i & 1) + (0 if i < 4 else 8)
B["16", 16] = 4, lambda t, i: t * 2 + (i & 1) + (0 if i < 2 else 8)
A["tf32", 4] = 2, lambda g, i: g if i == 0 else g + 8, lambda t, i: t
B["tf32", 4] = 1, lambda t, i: t
A["tf32", 8] = 4, lambda g, i: g if i in (0, 2) else g + 8, lambda t, i: t if i in (0, 1) else t + 4
B["tf32", 8] = 2, lambda t, i: t if i == 0 else t + 4
A["f64", 4], B["f64", 4] = A["tf32", 4], B["tf32", 4]
A["f64", 8], B["f64", 8] = A["tf32", 8], B["tf32", 8]
A["f64", 16] = 8, lambda g, i: g if i % 2 == 0 else g + 8, lambda t, i: i * 2 + t if i % 2 == 0 else i * 2 - 2 + t
B["f64", 16] = 4, lambda t, i: t + i * 4
A["8", 16] = 8, lambda g, i: g if i < 4 else g + 8, lambda t, i: t * 4 + (i & 3)
B["8", 16] = 4, lambda t, i: t * 4 + i
A["8", 32] = 16, lambda g, i: g if 0 <= i < 4 or 8 <= i < 12 else g + 8, lambda t, i: t * 4 + (i & 3) + (0 if i < 8 else 16)
B["8", 32] = 8, lambda t, i: t * 4 + (i & 3) + (0 if i < 4 else 16)
A["4", 32] = 16, lambda g, i: g if i < 8 else g + 8, lambda t, i: t * 8 + (i & 7)
B["4", 32] = 8, lambda t, i: t * 8 + i
A["4", 64] = 32, lambda g, i: g if 0 <= i < 8 or 16 <= i < 24 else g + 8, lambda t, i: t * 8 + (i & 7) + (0 if i < 16 else 32)
B["4", 64] = 16, lambda t, i: t * 8 + (i & 7) + (0 if i < 8 else 32)
# Of eight rows, by kind.
A8 = {"f64": (1, lambda t, i: t), "8": (4, lambda t, i: t * 4 + i), "4": (8, lambda t, i: t * 8 + i)}

KIND = {"f16": "16", "bf16": "16", "tf32": "tf32", "f64": "f64", "s8": "8", "u8": "8", "e4m3": "8", "e5m2": "8", "s4": "4", "u4": "4"}
BITS = {"16": 16, "tf32": 32, "f64": 64, "8": 8, "4": 4}


def e4m3(bits):
    sign, exponent, mantissa = -1 if bits >> 7 else 1, bits >> 3 & 15, bits & 7
    return sign * (mantissa / 8 * 2.0 ** -6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3 = {e4m3(bits): bits for bits in range(255, -1, -1) if bits & 0x7F != 0x7F}


def encode(ty, value):
    single = struct.unpack("<I", struct.pack("<f", value))[0]
    match ty:
        case "f64": return struct.unpack("<Q", struct.pack("<d", value))[0]
        case "f32" | "tf32": return single
        case "bf16": return single >> 16
        case "f16": return struct.unpack("<H", struct.pack("<e", value))[0]
        case "e5m2": return struct.unpack("<H", struct.pack("<e", value))[0] >> 8
        case "e4m3": return E4M3[value]
        case "s8" | "u8": return int(value) & 0xFF
        case "s4" | "u4": return int(value) & 0xF
        case _: return int(value) & 0xFFFFFFFF


def pack(ty, bits, values):
    """Registers of one lane: elements from low to high."""
    word = sum(encode(ty, value) << (bits * i) for i, value in enumerate(values))
    width = 64 if bits == 64 else 32
    return [word >> at & ((1 << width) - 1) for at in range(0, bits * len(values), width)]


def values(ty, seed, count):
    spread = {"s8": range(-128, 128), "u8": range(256), "s4": range(-8, 8), "u4": range(16), "s32": range(-1000, 1000)}
    floats = [-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 2, 3, 1.25, -0.25]
    choice = list(spread.get(ty, floats))
    return [choice[(seed * 7919 + i * i * 31 + i * 17 + (i >> 3) * 5) % len(choice)] for i in range(count)]


text = [".version 8.7\n.target sm_90\n.address_size 64\n"]
c = Cases("matrix")


def register(ty): return {"f64": ("f64", "fd", 8), "f32": ("f32", "f", 4)}.get(ty, ("b32", "r", 4))


def product(m, k, td, ta, tb, tc, saturate=False):
    kind, n = KIND[ta], 8
    bits, name = BITS[kind], f"m{m}n8k{k}_{td}_{ta}_{tb}_{tc}" + ("_satfinite" if saturate else "")
    a, b = values(ta, 1, m * k), values(tb, 2, k * n)
    first = values(tc, 3, m * n)
    if saturate: first = [x * 2 ** 21 + (2 ** 31 - 5 if x > 0 else -2 ** 31 + 5) if abs(x) % 3 else x for x in first]
    if saturate: first = [min(max(x, -2 ** 31), 2 ** 31 - 1) for x in first]
    fa, fb, fc = [], [], []
    if m == 16:
        count, row, column = A[kind, k]
        count_b, row_b = B[kind, k]
    else:
        count, column = A8[kind]
        row, count_b, row_b = lambda g, i: g, *A8[kind]
    # Accumulators: two elements a row, the upper rows first.
    def place(lane, i): return G(lane) + (8 if i >= 2 else 0), T(lane) * 2 + (i & 1)

    counts = 4 if m == 16 else 2
    want = [first[r * n + q] + sum(a[r * k + x] * b[x * n + q] for x in range(k)) for r in range(m) for q in range(n)]
    if saturate: want = [min(max(x, -2 ** 31), 2 ** 31 - 1) for x in want]
    fd = []
    for lane in range(32):
        g, t = G(lane), T(lane)
        fa += pack(ta, bits, [a[row(g, i) * k + column(t, i)] for i in range(count)])
        fb += pack(tb, bits, [b[row_b(t, i) * n + g] for i in range(count_b)])
        spots = [place(lane, i) for i in range(counts)]
        fc += pack(tc, {"f16": 16, "f64": 64}.get(tc, 32), [first[r * n + q] for r, q in spots])
        fd += pack(td, {"f16": 16, "f64": 64}.get(td, 32), [want[r * n + q] for r, q in spots])
    body, operands = [], []
    for letter, ty, words in (("d", td, fd), ("a", ta, fa), ("b", tb, fb), ("c", tc, fc)):
        ptx, prefix, size = register(ty)
        each = len(words) // 32
        names = [f"%{prefix}{letter}{i}" for i in range(each)]
        body.append(f"    .reg .{ptx} %{prefix}{letter}<{each}>;")
        body.append(f"    ld.param.u64 %p, [{letter}]; mad.wide.u32 %p{letter}, %lane, {each * size}, %p;")
        if letter != "d": body += [f"    ld.global.{ptx} {it}, [%p{letter}+{i * size}];" for i, it in enumerate(names)]
        operands.append("{" + ", ".join(names) + "}")
    ptx, prefix, size = register(td)
    body.append(f"    mma.sync.aligned.m{m}n8k{k}.row.col{'.satfinite' if saturate else ''}.{td}.{ta}.{tb}.{tc}\n        " + ", ".join(operands) + ";")
    body += [f"    st.global.{ptx} [%pd+{i * size}], %{prefix}d{i};" for i in range(len(fd) // 32)]
    text.append(f".visible .entry {name}(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {{\n    .reg .u32 %lane; .reg .u64 %p, %pa, %pb, %pc, %pd;\n"
                "    mov.u32 %lane, %tid.x;\n" + "\n".join(body) + "\n    ret;\n}\n")
    word = lambda ty: "u64" if ty == "f64" else "u32"
    c.case(name, name, [1], [32], [("a", word(ta), fa), ("b", word(tb), fb), ("c", word(tc), fc), ("d", word(td), [0] * len(fd))],
           [("d", word(td), fd)])


for k in (8, 16):
    for td, tc in (("f32", "f32"), ("f16", "f16")): product(16, k, td, "f16", "f16", tc)
    product(16, k, "f32", "bf16", "bf16", "f32")
for k in (4, 8): product(16, k, "f32", "tf32", "tf32", "f32")
product(8, 4, *["f64"] * 4)
for k in (4, 8, 16): product(16, k, *["f64"] * 4)
for ta, tb in (("s8", "s8"), ("u8", "s8"), ("s8", "u8"), ("u8", "u8")):
    product(8, 16, "s32", ta, tb, "s32")
    for k in (16, 32): product(16, k, "s32", ta, tb, "s32", saturate=(ta == tb))
for ta, tb in (("s4", "s4"), ("u4", "s4"), ("s4", "u4"), ("u4", "u4")):
    product(8, 32, "s32", ta, tb, "s32", saturate=(ta == tb))
    for k in (32, 64): product(16, k, "s32", ta, tb, "s32", saturate=(ta != tb))
for ta, tb in (("e4m3", "e4m3"), ("e5m2", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e5m2")):
    for td in ("f32", "f16"): product(16, 32, td, ta, tb, td)

# Moves. Rows of matrices begin wherever lanes say: lane 8 i + r names row r of matrix i.
rows = [(lane * 5 + 3) % 32 for lane in range(32)]
memory = [(i * 40503 + 77) & 0xFFFF for i in range(256)]
HEAD = """    .reg .b32 %r<9>; .reg .u32 %lane, %at; .reg .u64 %p<5>; .shared .align 16 .b16 s[256];
    mov.u32 %lane, %tid.x; ld.param.u64 %p0, [rows]; ld.param.u64 %p1, [memory]; ld.param.u64 %p2, [registers];
    mad.wide.u32 %p0, %lane, 4, %p0; ld.global.u32 %at, [%p0]; mov.u32 %r8, s; mad.lo.u32 %at, %at, 16, %r8;
    mad.wide.u32 %p1, %lane, 16, %p1; mad.lo.u32 %r8, %lane, 16, %r8; mad.wide.u32 %p2, %lane, 16, %p2;
    ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%p1]; st.shared.v4.b32 [%r8], {%r0, %r1, %r2, %r3}; bar.warp.sync -1;
"""
for count in (1, 2, 4):
    for trans in (False, True):
        # 9.7.14.5 "ldmatrix": thread T gets elements 2 (T % 4) and the next of row T / 4; with .trans those of the column.
        spot = lambda lane, h: (2 * T(lane) + h, G(lane)) if trans else (G(lane), 2 * T(lane) + h)
        registers = []
        stored = memory[:]
        held = [[(lane * 0x01010000 + i * 0x00030005 + lane * 9) & 0xFFFFFFFF for i in range(4)] for lane in range(32)]
        for lane in range(32):
            loaded = [0] * 4
            for i in range(count):
                for h in range(2):
                    r, q = spot(lane, h)
                    loaded[i] |= memory[rows[8 * i + r] * 8 + q] << (16 * h)
                    stored[rows[8 * i + r] * 8 + q] = held[lane][i] >> (16 * h) & 0xFFFF
            registers += loaded
        suffix = f"x{count}" + ("_trans" if trans else "")
        modifiers = f"m8n8.x{count}" + (".trans" if trans else "")
        names = "{" + ", ".join(f"%r{i}" for i in range(count)) + "}"
        parameters = "(.param .u64 rows, .param .u64 memory, .param .u64 registers)"
        text.append(f".visible .entry load_{suffix}{parameters} {{\n{HEAD}    mov.b32 %r1, 0; mov.b32 %r2, 0; mov.b32 %r3, 0;\n"
                    f"    ldmatrix.sync.aligned.{modifiers}.shared.b16 {names}, [%at];\n"
                    "    st.global.v4.b32 [%p2], {%r0, %r1, %r2, %r3};\n    ret;\n}\n")
        text.append(f".visible .entry store_{suffix}{parameters} {{\n{HEAD}    ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%p2];\n"
                    f"    stmatrix.sync.aligned.{modifiers}.shared.b16 [%at], {names}; bar.warp.sync -1;\n"
                    "    ld.shared.v4.b32 {%r0, %r1, %r2, %r3}, [%r8]; st.global.v4.b32 [%p1], {%r0, %r1, %r2, %r3};\n    ret;\n}\n")
        c.case(f"ldmatrix_{suffix}", f"load_{suffix}", [1], [32], [("rows", "u32", rows), ("memory", "u16", memory), ("out", "u32", [9] * 128)],
               [("out", "u32", registers)])
        c.case(f"stmatrix_{suffix}", f"store_{suffix}", [1], [32],
               [("rows", "u32", rows), ("memory", "u16", memory), ("in", "u32", [word for lane in held for word in lane])],
               [("memory", "u16", stored)])
text.append(".visible .entry transpose(.param .u64 in, .param .u64 out) {\n    .reg .b32 %r<2>; .reg .u32 %lane; .reg .u64 %p<2>;\n"
            "    mov.u32 %lane, %tid.x; ld.param.u64 %p0, [in]; ld.param.u64 %p1, [out];\n"
            "    mad.wide.u32 %p0, %lane, 4, %p0; mad.wide.u32 %p1, %lane, 4, %p1; ld.global.b32 %r0, [%p0];\n"
            "    movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0; st.global.b32 [%p1], %r1;\n    ret;\n}\n")
square = memory[:64]
words = [square[i] | square[i + 1] << 16 for i in range(0, 64, 2)]
turned = [square[q * 8 + r] for r in range(8) for q in range(8)]
c.case("movmatrix", "transpose", [1], [32], [("in", "u32", words), ("out", "u32", [0] * 32)],
       [("out", "u32", [turned[i] | turned[i + 1] << 16 for i in range(0, 64, 2)])])

# `wmma`, whose registers are the device's own affair: only what is stored counts.
a, b = [[(i * i * 7 + i * 13 + seed) % 256 - 128 for i in range(256)] for seed in (5, 90)]
first = [(2 ** 31 - 1 - i * 31) * (1 if i % 3 else -1) for i in range(256)]
sums = [first[r * 16 + q] + sum(a[r * 16 + k] * b[q * 16 + k] for k in range(16)) for r in range(16) for q in range(16)]
assert any(abs(x) > 2 ** 31 for x in sums)
for name, suffix, want in (("wmma_wraps", "", [(x + 2 ** 31) % 2 ** 32 - 2 ** 31 for x in sums]),
                           ("wmma_saturates", ".satfinite", [min(max(x, -2 ** 31), 2 ** 31 - 1) for x in sums])):
    regs = lambda letter, n: "{" + ", ".join(f"%{letter}{i}" for i in range(n)) + "}"
    text.append(f".visible .entry {name}(.param .u64 a, .param .u64 b, .param .u64 c) {{\n"
                "    .reg .b32 %a<2>, %b<2>, %c<8>; .reg .u64 %p<3>;\n"
                "    ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [c];\n"
                f"    wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {regs('a', 2)}, [%p0];\n"
                f"    wmma.load.b.sync.aligned.col.m16n16k16.global.s8 {regs('b', 2)}, [%p1];\n"
                f"    wmma.load.c.sync.aligned.row.m16n16k16.global.s32 {regs('c', 8)}, [%p2];\n"
                f"    wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.s8.s32{suffix} {regs('c', 8)}, {regs('a', 2)}, {regs('b', 2)}, {regs('c', 8)};\n"
                f"    wmma.store.d.sync.aligned.row.m16n16k16.global.s32 [%p2], {regs('c', 8)};\n    ret;\n}}\n")
    c.case(name, name, [1], [32], [("a", "i8", a), ("b", "i8", b), ("c", "i32", first)], [("c", "i32", want)])
c.write()
(HERE / "matrix.ptx").write_text("\n".join(text))
