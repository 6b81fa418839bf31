//! The modifiers.

use crate::ir::Type;

/// Any modifier at all, known or not.
pub(super) const ANY: u64 = u64::MAX;

macro_rules! groups {
    ($($name:ident)*) => { groups! { @step 0u32; $($name)* } };
    (@step $bit:expr; $name:ident $($rest:ident)*) => {
        pub(super) const $name: u64 = 1 << ($bit);
        groups! { @step $bit + 1; $($rest)* }
    };
    (@step $bit:expr;) => {};
}

groups! {
    TYPE VECTOR ROUND INTEGRAL FTZ SAT APPROX CARRY HALF COMPARE OPERATION NAN ABS RELU SPACE CACHE SEMANTICS SCOPE
    UNIFORM WARP SHUFFLE VOTE PRMT FUNNEL CLASS SHIFT MATRIX COPY WAIT TO NOFTZ PROXY BARRIER PREFETCH PACK VIDEO
}

macro_rules! suffixes {
    ($($name:ident $text:literal $group:expr;)*) => {
        /// A modifier of an instruction.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[expect(missing_docs, reason = "PTX's own modifier names")]
        pub enum Suffix {
            $($name,)*
            /// Where and how long to cache: never changes a result.
            CachePolicy,
            /// Not known here; only opcodes that we do not run take such.
            Other,
        }

        impl Suffix {
            /// The modifier of a name, and the groups that it belongs to.
            pub(super) fn find(text: &str) -> Option<(Suffix, u64)> {
                Some(match text {
                    $($text => (Suffix::$name, $group),)*
                    _ if text.starts_with("L1::") || text.starts_with("L2::") || text.starts_with("level::") => {
                        (Suffix::CachePolicy, CACHE)
                    }
                    _ if text.starts_with("const[") => (Suffix::Const, SPACE),
                    _ => return None,
                })
            }

            /// The name, without the dot.
            pub fn name(self) -> &'static str {
                match self {
                    $(Suffix::$name => $text,)*
                    Suffix::CachePolicy => "L2::cache_hint",
                    Suffix::Other => "?",
                }
            }
        }
    };
}

suffixes! {
    Pred "pred" TYPE; B8 "b8" TYPE; B16 "b16" TYPE; B32 "b32" TYPE; B64 "b64" TYPE; B128 "b128" TYPE;
    U8 "u8" TYPE; U16 "u16" TYPE; U32 "u32" TYPE; U64 "u64" TYPE;
    S8 "s8" TYPE; S16 "s16" TYPE; S32 "s32" TYPE; S64 "s64" TYPE;
    F16 "f16" TYPE; F16x2 "f16x2" TYPE; BF16 "bf16" TYPE; BF16x2 "bf16x2" TYPE; F32 "f32" TYPE; F64 "f64" TYPE;
    TF32 "tf32" TYPE; U16x2 "u16x2" TYPE; S16x2 "s16x2" TYPE; E4M3x2 "e4m3x2" TYPE; E5M2x2 "e5m2x2" TYPE;
    // Types that nothing here computes with.
    B1 "b1" (TYPE | VIDEO); B4 "b4" TYPE; U2 "u2" TYPE; S2 "s2" TYPE; U4 "u4" TYPE; S4 "s4" TYPE; F32x2 "f32x2" TYPE;
    B8x16 "b8x16" TYPE; U8x4 "u8x4" TYPE; S8x4 "s8x4" TYPE;
    E4M3 "e4m3" TYPE; E5M2 "e5m2" TYPE; E2M1x2 "e2m1x2" TYPE; E2M3x2 "e2m3x2" TYPE; E3M2x2 "e3m2x2" TYPE;
    E2M1x4 "e2m1x4" TYPE; E2M3x4 "e2m3x4" TYPE; E3M2x4 "e3m2x4" TYPE; E4M3x4 "e4m3x4" TYPE; E5M2x4 "e5m2x4" TYPE;
    Ue8M0x2 "ue8m0x2" TYPE;
    TexRef "texref" TYPE; SamplerRef "samplerref" TYPE; SurfRef "surfref" TYPE;

    V2 "v2" VECTOR; V4 "v4" VECTOR; V8 "v8" VECTOR;
    Rn "rn" ROUND; Rz "rz" ROUND; Rm "rm" ROUND; Rp "rp" ROUND; Rna "rna" ROUND; Rs "rs" ROUND;
    Rni "rni" INTEGRAL; Rzi "rzi" INTEGRAL; Rmi "rmi" INTEGRAL; Rpi "rpi" INTEGRAL;
    Ftz "ftz" FTZ; Sat "sat" SAT; Satfinite "satfinite" SAT; NoFtz "noftz" NOFTZ;
    Approx "approx" APPROX; Full "full" APPROX;
    Cc "cc" CARRY; Lo "lo" (HALF | COMPARE); Hi "hi" (HALF | COMPARE); Wide "wide" HALF;

    Eq "eq" COMPARE; Ne "ne" COMPARE; Lt "lt" COMPARE; Le "le" COMPARE; Gt "gt" COMPARE; Ge "ge" COMPARE;
    Ls "ls" COMPARE; Hs "hs" COMPARE; Equ "equ" COMPARE; Neu "neu" COMPARE; Ltu "ltu" COMPARE; Leu "leu" COMPARE;
    Gtu "gtu" COMPARE; Geu "geu" COMPARE; Num "num" COMPARE; IsNan "nan" COMPARE;
    And "and" OPERATION; Or "or" OPERATION; Xor "xor" OPERATION; Exch "exch" OPERATION; Add "add" OPERATION;
    Inc "inc" OPERATION; Dec "dec" OPERATION; Min "min" OPERATION; Max "max" OPERATION; Cas "cas" OPERATION;
    Popc "popc" OPERATION; Async "async" (OPERATION | COPY);
    NanWins "NaN" NAN; Xorsign "xorsign" ABS; Abs "abs" ABS; Relu "relu" RELU; Oob "oob" RELU;

    Global "global" SPACE; Shared "shared" SPACE; SharedCta "shared::cta" SPACE; SharedCluster "shared::cluster" SPACE;
    Local "local" SPACE; Param "param" SPACE; ParamEntry "param::entry" SPACE; ParamFunc "param::func" SPACE;
    Const "const" SPACE; Tex "tex" SPACE;
    Ca "ca" CACHE; Cg "cg" CACHE; Cs "cs" CACHE; Lu "lu" CACHE; Cv "cv" CACHE; Wb "wb" CACHE; Wt "wt" CACHE;
    Nc "nc" CACHE; Unified "unified" CACHE;
    Weak "weak" SEMANTICS; Volatile "volatile" SEMANTICS; Relaxed "relaxed" SEMANTICS; Acquire "acquire" SEMANTICS;
    Release "release" SEMANTICS; AcqRel "acq_rel" SEMANTICS; Sc "sc" SEMANTICS; Mmio "mmio" SEMANTICS;
    Cta "cta" SCOPE; Cluster "cluster" (SCOPE | BARRIER); Gpu "gpu" SCOPE; Sys "sys" SCOPE; Gl "gl" SCOPE;

    Uni "uni" (UNIFORM | VOTE); Sync "sync" (WARP | BARRIER); Aligned "aligned" (WARP | BARRIER);
    Warp "warp" BARRIER; Arrive "arrive" BARRIER; Red "red" BARRIER; Wait "wait" BARRIER;
    Up "up" SHUFFLE; Down "down" SHUFFLE; Bfly "bfly" SHUFFLE; Idx "idx" (SHUFFLE | UNIFORM);
    All "all" VOTE; Any "any" VOTE; Ballot "ballot" VOTE;
    F4e "f4e" PRMT; B4e "b4e" PRMT; Rc8 "rc8" PRMT; Ecl "ecl" PRMT; Ecr "ecr" PRMT; Rc16 "rc16" PRMT;
    Left "l" FUNNEL; Right "r" FUNNEL; Clamp "clamp" (FUNNEL | VIDEO); Wrap "wrap" (FUNNEL | VIDEO);
    Finite "finite" CLASS; Infinite "infinite" CLASS; Number "number" CLASS; NotANumber "notanumber" CLASS;
    Normal "normal" CLASS; Subnormal "subnormal" CLASS;
    ShiftAmount "shiftamt" SHIFT; Shr7 "shr7" SHIFT; Shr15 "shr15" SHIFT;
    M8N8 "m8n8" MATRIX; M16N16 "m16n16" MATRIX; M16N8 "m16n8" MATRIX; M8N8K4 "m8n8k4" MATRIX;
    M8N8K16 "m8n8k16" MATRIX; M8N8K32 "m8n8k32" MATRIX; M8N8K128 "m8n8k128" MATRIX; M16N8K4 "m16n8k4" MATRIX;
    M16N8K8 "m16n8k8" MATRIX; M16N8K16 "m16n8k16" MATRIX; M16N8K32 "m16n8k32" MATRIX; M16N8K64 "m16n8k64" MATRIX;
    M16N8K128 "m16n8k128" MATRIX; M16N8K256 "m16n8k256" MATRIX; M16N16K16 "m16n16k16" MATRIX;
    M16N16K8 "m16n16k8" MATRIX; M32N8K16 "m32n8k16" MATRIX; M8N32K16 "m8n32k16" MATRIX;
    X1 "x1" MATRIX; X2 "x2" MATRIX; X4 "x4" MATRIX; Trans "trans" MATRIX; Row "row" MATRIX; Col "col" MATRIX;
    A "a" MATRIX; B "b" MATRIX; C "c" MATRIX; D "d" MATRIX; Load "load" MATRIX; Store "store" MATRIX; Mma "mma" MATRIX;
    CommitGroup "commit_group" COPY; WaitGroup "wait_group" COPY; WaitAll "wait_all" COPY; Bulk "bulk" COPY;
    Mbarrier "mbarrier" COPY; CompleteTx "mbarrier::complete_tx::bytes" COPY;
    LaunchDependents "launch_dependents" WAIT; NoIncrement "noinc" WAIT;
    To "to" TO; Pack "pack" PACK;
    Proxy "proxy" PROXY; Alias "alias" PROXY; AsyncProxy "async::generic" PROXY;
    L1 "L1" PREFETCH; L2 "L2" PREFETCH; EvictLast "evict_last" PREFETCH; EvictNormal "evict_normal" PREFETCH;
    Tensormap "tensormap" PREFETCH;
    Half0 "h0" VIDEO; Half1 "h1" VIDEO; Byte0 "b0" VIDEO; Byte2 "b2" VIDEO; Byte3 "b3" VIDEO;
}

impl Suffix {
    /// The type that a modifier names, where the intermediate form has it.
    pub fn ty(self) -> Option<Type> {
        Some(match self {
            Suffix::Pred => Type::Pred,
            Suffix::B8 => Type::B8,
            Suffix::B16 => Type::B16,
            Suffix::B32 => Type::B32,
            Suffix::B64 => Type::B64,
            Suffix::B128 => Type::B128,
            Suffix::U8 => Type::U8,
            Suffix::U16 => Type::U16,
            Suffix::U32 => Type::U32,
            Suffix::U64 => Type::U64,
            Suffix::S8 => Type::S8,
            Suffix::S16 => Type::S16,
            Suffix::S32 => Type::S32,
            Suffix::S64 => Type::S64,
            Suffix::F16 => Type::F16,
            Suffix::F16x2 => Type::F16x2,
            Suffix::BF16 => Type::BF16,
            Suffix::BF16x2 => Type::BF16x2,
            Suffix::F32 => Type::F32,
            Suffix::F64 => Type::F64,
            Suffix::TF32 => Type::TF32,
            Suffix::U16x2 => Type::U16x2,
            Suffix::S16x2 => Type::S16x2,
            Suffix::E4M3x2 => Type::E4M3x2,
            Suffix::E5M2x2 => Type::E5M2x2,
            _ => return None,
        })
    }

    /// Whether it names a type that the intermediate form lacks.
    pub(crate) fn foreign_type(self) -> bool {
        self.ty().is_none() && Suffix::find(self.name()).is_some_and(|(_, group)| group & TYPE != 0)
    }
}
