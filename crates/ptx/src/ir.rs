//! What a kernel means, after names, directives and syntax are gone.
//!
//! Lowering turns the AST of a PTX module into one [`Kernel`] per `.entry`, with `.func` calls inlined (or,
//! of functions that may call themselves, turned into jumps): basic blocks of three-address instructions over virtual registers (mutable, not SSA), every type explicit. Code generation reads
//! nothing else. Registers hold bits of a [`Width`]; what the bits mean is said by each instruction.

mod module;
pub(crate) mod operands;

pub use module::{Module, Param, Relocation, Unsupported, Variable};

use crate::Position;

/// A virtual register of one kernel: its position in [`Kernel::registers`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reg(pub u32);

/// A basic block of one kernel: its position in [`Kernel::blocks`]. Block 0 is the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BlockId(pub u32);

/// Bits in a register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Width {
    /// A predicate.
    Pred,
    /// 16 bits; also holds `.b8` registers (upper bits unspecified).
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
    /// 128 bits.
    B128,
}

/// What an instruction takes bits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own type names")]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64,
    U16x2,
    S16x2,
    E4M3x2,
    E5M2x2,
    TF32,
}

/// A source operand.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// Bits of a constant, in the width that the instruction's type asks for (floats as their IEEE bits).
    Imm(u64),
    /// Address of a module variable (`.global` or `.const`) plus an offset in bytes.
    Global(u32, i64),
    /// Offset in the block's shared memory; the dynamically sized part begins at [`Kernel::shared_bytes`] rounded up to 16
    /// (lowering pads `shared_bytes` where the dynamic array asks for more).
    Shared(i64),
    /// Offset in the thread's local memory.
    Local(i64),
    /// Offset in the kernel's parameter buffer.
    Param(i64),
}

/// Where an address points.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Space {
    /// Any of the others, told apart by the address.
    Generic,
    /// Device memory.
    Global,
    /// Constant memory: device memory that kernels only read.
    Const,
    /// Shared memory; addresses are offsets (32 or 64 bits).
    Shared,
    /// Local memory; addresses are offsets (32 or 64 bits).
    Local,
    /// Kernel parameters; addresses are offsets in the parameter buffer.
    Param,
}

/// A memory operand: `[base + offset]`. The base's register is 32 or 64 bits wide.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Address {
    /// Where it points.
    pub space: Space,
    /// Base.
    pub base: Operand,
    /// Constant offset in bytes.
    pub offset: i64,
}

/// Rounding of a floating-point result, or to an integral value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum Rounding {
    #[default]
    Rn,
    Rz,
    Rm,
    Rp,
    /// Nearest, ties away from zero (`.rna`).
    Rna,
    Rni,
    Rzi,
    Rmi,
    Rpi,
}

/// Modifiers of arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Modifiers {
    /// Rounding.
    pub rounding: Rounding,
    /// Flush subnormal inputs and results to zero.
    pub ftz: bool,
    /// Clamp to [0, 1] (float) or to the type's range (integer).
    pub sat: bool,
    /// `.approx` or `.full`: the manual's looser bound is enough.
    pub approx: bool,
    /// `.NaN` of min and max: a NaN operand wins.
    pub nan: bool,
    /// `.relu`: negative results become zero.
    pub relu: bool,
}

/// One-operand arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own mnemonics")]
pub enum Unary {
    Neg,
    Not,
    Cnot,
    Abs,
    Popc,
    Clz,
    Brev,
    /// Position of the most significant non-sign bit; 0xffffffff when there is none.
    Bfind,
    /// The same as a shift amount (`bfind.shiftamt`).
    BfindShift,
    Rcp,
    Sqrt,
    Rsqrt,
    Sin,
    Cos,
    Ex2,
    Lg2,
    Tanh,
}

/// Two-operand arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own mnemonics")]
pub enum Binary {
    Add,
    Sub,
    /// Low half of a product (integers), or the product (floats).
    Mul,
    MulHi,
    /// Full product; the result is twice as wide as the type.
    MulWide,
    /// 24-bit multiply, low and high.
    Mul24,
    Mul24Hi,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    /// Shifts clamp their amount (always `u32`) to the width.
    Shl,
    Shr,
    CopySign,
}

/// Three-operand arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own mnemonics")]
pub enum Ternary {
    Mad,
    MadHi,
    /// Product and third operand are twice as wide as the type.
    MadWide,
    Mad24,
    Mad24Hi,
    Fma,
    Sad,
    /// `a`, position and length.
    Bfe,
    /// Bytes of `a` and `b` chosen by the selector `c`.
    Prmt(PrmtMode),
    /// Truth table.
    Lop3(u8),
    /// Funnel shifts of `(b:a)` by `c`; `.clamp` or `.wrap`.
    ShfLeft {
        wrap: bool,
    },
    ShfRight {
        wrap: bool,
    },
    /// `c` (of type s32 or f32, see `float`) >= 0 ? `a` : `b`.
    Slct {
        float: bool,
    },
    /// Four-way dot product; signedness of `a` and `b`.
    Dp4a {
        signed_a: bool,
        signed_b: bool,
    },
    Dp2a {
        signed_a: bool,
        signed_b: bool,
        high: bool,
    },
    Min3,
    Max3,
    /// Position in `a` of the `c`-th set bit counted from bit `b` (`fns.b32`); 0xffffffff when there is none.
    Fns,
}

/// Modes of `prmt`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum PrmtMode {
    Index,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

/// Comparisons. The `*u` forms are true when an operand is NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// How a comparison's result is joined with a predicate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum Join {
    And,
    Or,
    Xor,
}

/// A predicate operand, possibly negated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Predicate {
    /// The register.
    pub register: Reg,
    /// `!p`.
    pub negated: bool,
}

/// Atomic operations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own mnemonics")]
pub enum AtomicOp {
    And,
    Or,
    Xor,
    Exch,
    Add,
    /// Wraps to zero above the bound.
    Inc,
    /// Wraps to the bound below zero.
    Dec,
    Min,
    Max,
    /// Compare (`a`) and swap (`b`).
    Cas,
}

/// How strongly an access is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum Semantics {
    #[default]
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcqRel,
}

/// Special registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own register names; axes are 0 = x, 1 = y, 2 = z")]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    GlobalTimerLo,
    GlobalTimerHi,
    DynamicSharedSize,
    TotalSharedSize,
    /// End of the thread's local memory, the stack of frames included; no register of PTX.
    LocalSize,
    /// Clusters of one block: id and size in blocks, this block's place.
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    /// `%envreg`, `%pm` and the like: reads as zero.
    Zero,
}

/// Which lane `shfl` reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum ShuffleMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// What `vote` computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

/// What `barrier` does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BarrierKind {
    /// Waits.
    Sync,
    /// Arrives without waiting.
    Arrive,
    /// Waits, and counts the threads whose predicate holds.
    RedPopc(Reg, Predicate),
    /// Waits; true when all predicates hold.
    RedAnd(Reg, Predicate),
    /// Waits; true when any predicate holds.
    RedOr(Reg, Predicate),
}

/// Functions that the hardware's runtime provides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Runtime {
    /// `vprintf(format, arguments) -> s32`.
    Vprintf,
    /// `__assertfail(message, file, line, function, char size)`.
    AssertFail,
    /// `malloc(size) -> pointer`.
    Malloc,
    /// `free(pointer)`.
    Free,
}

/// What an instruction does.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "fields are named as in the PTX manual: d destination, a b c sources, p q predicates")]
pub enum Op {
    /// Copies bits; `ty` gives the width.
    Mov {
        ty: Type,
        d: Reg,
        a: Operand,
    },
    /// Splits `a` into equal parts, low part first; `None` is `_`.
    Unpack {
        d: Vec<Option<Reg>>,
        part: Width,
        a: Operand,
    },
    /// Joins equal parts, low part first.
    Pack {
        d: Reg,
        part: Width,
        a: Vec<Operand>,
    },
    Unary {
        op: Unary,
        ty: Type,
        modifiers: Modifiers,
        d: Reg,
        a: Operand,
    },
    Binary {
        op: Binary,
        ty: Type,
        modifiers: Modifiers,
        d: Reg,
        a: Operand,
        b: Operand,
    },
    Ternary {
        op: Ternary,
        ty: Type,
        modifiers: Modifiers,
        d: Reg,
        a: Operand,
        b: Operand,
        c: Operand,
    },
    /// `bfi d, a, b, position, length`.
    Bfi {
        ty: Type,
        d: Reg,
        a: Operand,
        b: Operand,
        position: Operand,
        length: Operand,
    },
    /// a + b + carry, or a + !b + carry; the carry flag is a predicate register. A missing carry is 0, or 1 of a difference.
    AddCarry {
        ty: Type,
        subtract: bool,
        d: Reg,
        a: Operand,
        b: Operand,
        carry_in: Option<Reg>,
        carry_out: Option<Reg>,
    },
    /// `setp`: `p = (a ? b) join c`, `q = !(a ? b) join c`.
    SetP {
        compare: Compare,
        ty: Type,
        ftz: bool,
        p: Option<Reg>,
        q: Option<Reg>,
        a: Operand,
        b: Operand,
        join: Option<(Join, Predicate)>,
    },
    /// `set`: all ones (integers) or 1.0 (f32) when true.
    Set {
        compare: Compare,
        result: Type,
        ty: Type,
        ftz: bool,
        d: Reg,
        a: Operand,
        b: Operand,
        join: Option<(Join, Predicate)>,
    },
    /// `d = p ? a : b`.
    SelP {
        ty: Type,
        d: Reg,
        a: Operand,
        b: Operand,
        p: Predicate,
    },
    /// Predicate logic on registers: `and.pred` and so on are `Binary` with `Type::Pred`; this loads a constant or copies.
    Cvt {
        to: Type,
        from: Type,
        modifiers: Modifiers,
        d: Reg,
        a: Operand,
    },
    /// Two floats into one packed register: `d = (a << half) | b`.
    CvtPack {
        to: Type,
        from: Type,
        modifiers: Modifiers,
        d: Reg,
        a: Operand,
        b: Operand,
    },
    /// `testp`.
    TestP {
        test: FloatTest,
        ty: Type,
        p: Reg,
        a: Operand,
    },
    /// Generic address of a space's address.
    ToGeneric {
        space: Space,
        d: Reg,
        a: Operand,
    },
    /// A space's address of a generic address.
    FromGeneric {
        space: Space,
        d: Reg,
        a: Operand,
    },
    /// `isspacep`.
    IsSpace {
        space: Space,
        p: Reg,
        a: Operand,
    },
    /// Loads `d.len()` consecutive elements. A register wider than `ty` gets the value sign-extended (signed types) or
    /// zero-extended (all others).
    Load {
        ty: Type,
        d: Vec<Option<Reg>>,
        address: Address,
        semantics: Semantics,
    },
    /// Stores consecutive elements: of a register wider than `ty`, the low bits.
    Store {
        ty: Type,
        address: Address,
        a: Vec<Operand>,
        semantics: Semantics,
    },
    /// `atom` and `red` (without `d`).
    Atomic {
        op: AtomicOp,
        ty: Type,
        d: Option<Reg>,
        address: Address,
        a: Operand,
        b: Option<Operand>,
        semantics: Semantics,
    },
    /// Copies `bytes` from global to shared memory (`cp.async`, done at once); bytes past `source_bytes` are zero.
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u32,
        source_bytes: Option<Operand>,
    },
    Special {
        d: Reg,
        which: Special,
    },
    /// Waits for, or arrives at, a barrier of the block. `threads` is the optional count.
    Barrier {
        kind: BarrierKind,
        id: Operand,
        threads: Option<Operand>,
    },
    /// `bar.warp.sync`.
    WarpBarrier {
        mask: Operand,
    },
    /// `membar` and `fence`.
    Fence,
    /// `shfl.sync`.
    Shuffle {
        mode: ShuffleMode,
        d: Reg,
        p: Option<Reg>,
        a: Operand,
        b: Operand,
        c: Operand,
        mask: Operand,
    },
    /// `vote.sync`; ballot writes a b32, the others a predicate.
    Vote {
        mode: VoteMode,
        d: Reg,
        a: Predicate,
        mask: Operand,
    },
    /// `match.any` and `match.all` (with `p`).
    Match {
        all: bool,
        ty: Type,
        d: Reg,
        p: Option<Reg>,
        a: Operand,
        mask: Operand,
    },
    /// `redux.sync`.
    Redux {
        op: AtomicOp,
        ty: Type,
        d: Reg,
        a: Operand,
        mask: Operand,
    },
    ActiveMask {
        d: Reg,
    },
    /// `elect.sync d|p, mask`.
    Elect {
        d: Option<Reg>,
        p: Reg,
        mask: Operand,
    },
    /// Calls a runtime function.
    Runtime {
        function: Runtime,
        d: Option<Reg>,
        a: Vec<Operand>,
    },
    /// `ldmatrix`: 8×8 matrices of 16-bit elements; `d.len()` is 1, 2 or 4.
    LdMatrix {
        d: Vec<Reg>,
        address: Address,
        transpose: bool,
    },
    /// `stmatrix`: the reverse of `ldmatrix`.
    StMatrix {
        address: Address,
        a: Vec<Operand>,
        transpose: bool,
    },
    /// `movmatrix.trans`: transposes an 8×8 matrix of 16-bit elements that the warp holds in one register.
    MovMatrix {
        d: Reg,
        a: Operand,
    },
    /// `mma.sync` row.col: shape m, n, k; element types of d, a, b, c (floats of eight bits as their pairs); whether sums
    /// of integers saturate; register fragments.
    Mma {
        shape: [u16; 3],
        types: [Type; 4],
        saturate: bool,
        d: Vec<Reg>,
        a: Vec<Operand>,
        b: Vec<Operand>,
        c: Vec<Operand>,
    },
    /// Stops the kernel with an error.
    Trap,
    /// Stops the kernel: the stack of frames is too small.
    StackOverflow,
    /// Does nothing that shows (`nanosleep`, `prefetch`, `griddepcontrol`, …).
    Nothing,
}

/// Classes of floats that `testp` tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "PTX's own modifier names")]
pub enum FloatTest {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// An instruction with its guard and its place in the text.
#[derive(Clone, PartialEq, Debug)]
pub struct Instruction {
    /// Lanes for which it is false skip the instruction.
    pub guard: Option<Predicate>,
    /// What it does.
    pub op: Op,
    /// Where it stands.
    pub at: Position,
}

/// How a block ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Terminator {
    /// Goes on at one block.
    Jump(BlockId),
    /// Goes on at `then` where the predicate holds, else at `otherwise`. `uniform`: `bra.uni`.
    Branch {
        /// Condition.
        p: Predicate,
        /// Target where it holds.
        then: BlockId,
        /// Target where it does not.
        otherwise: BlockId,
        /// All active lanes agree.
        uniform: bool,
    },
    /// `brx.idx`: goes on at `targets[index]`.
    Switch {
        /// Index, u32.
        index: Operand,
        /// Targets.
        targets: Vec<BlockId>,
    },
    /// The thread is done.
    Exit,
}

/// Instructions that run one after another.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// In order.
    pub instructions: Vec<Instruction>,
    /// Then.
    pub end: Terminator,
}

/// A kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Kernel {
    /// Linker name.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Size of the parameter buffer in bytes.
    pub param_bytes: u32,
    /// Width of every virtual register.
    pub registers: Vec<Width>,
    /// Blocks; 0 is the entry. Blocks stand in the order of the text.
    pub blocks: Vec<Block>,
    /// Statically sized shared memory in bytes.
    pub shared_bytes: u32,
    /// Local memory of a thread in bytes.
    pub local_bytes: u32,
    /// Where the shared memory of a block and the local memory of a thread begin: a multiple of this power of two, at least 16.
    pub memory_align: u32,
    /// Where functions call themselves: bytes of one frame of each. The stack of frames begins behind the local memory,
    /// at a multiple of 16, and must hold as much at least.
    pub stack_frames: u32,
    /// `.reqntid`, or zeros.
    pub required_block: [u32; 3],
    /// `.maxntid` as a product, or 0.
    pub max_threads: u32,
}
