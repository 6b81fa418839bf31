//! The opcodes and the groups of modifiers that each takes.

use super::suffix::*;

/// Memory accesses.
const ACCESS: u64 = SPACE | CACHE | SEMANTICS | SCOPE | VECTOR | TYPE | PREFETCH;
/// Floating-point arithmetic.
const FLOAT: u64 = TYPE | ROUND | FTZ | SAT | APPROX;
/// Barriers of every kind.
const BLOCK: u64 = BARRIER | WARP | OPERATION | TYPE | SEMANTICS | SCOPE | WAIT;
/// SIMD in a word, from the video instructions.
const SIMD: u64 = TYPE | SAT | OPERATION | VIDEO | COMPARE | SHIFT;

macro_rules! opcodes {
    ($($name:ident $text:literal $groups:expr;)*) => {
        /// The first word of a mnemonic.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[expect(missing_docs, reason = "PTX's own mnemonics")]
        pub enum Opcode {
            $($name,)*
        }

        impl Opcode {
            /// The opcode of a word and the groups of modifiers that it takes.
            pub(super) fn find(text: &str) -> Option<(Opcode, u64)> {
                Some(match text {
                    $($text => (Opcode::$name, $groups),)*
                    _ => return None,
                })
            }

            /// The word.
            pub fn name(self) -> &'static str {
                match self {
                    $(Opcode::$name => $text,)*
                }
            }

            /// All of them with their words.
            pub fn all() -> impl Iterator<Item = (Opcode, &'static str)> {
                [$((Opcode::$name, $text),)*].into_iter()
            }
        }
    };
}

opcodes! {
    Add "add" FLOAT | CARRY; Sub "sub" FLOAT | CARRY; Addc "addc" TYPE | CARRY; Subc "subc" TYPE | CARRY;
    Mul "mul" FLOAT | HALF; Mad "mad" FLOAT | HALF | CARRY; Madc "madc" TYPE | HALF | CARRY;
    Mul24 "mul24" TYPE | HALF; Mad24 "mad24" TYPE | HALF | SAT; Fma "fma" FLOAT | RELU;
    Sad "sad" TYPE; Div "div" FLOAT; Rem "rem" TYPE; Abs "abs" TYPE | FTZ; Neg "neg" TYPE | FTZ;
    Min "min" TYPE | FTZ | NAN | ABS | RELU; Max "max" TYPE | FTZ | NAN | ABS | RELU;
    Popc "popc" TYPE; Clz "clz" TYPE; Bfind "bfind" TYPE | SHIFT; Fns "fns" TYPE; Brev "brev" TYPE;
    Bfe "bfe" TYPE; Bfi "bfi" TYPE; Szext "szext" TYPE | FUNNEL; Bmsk "bmsk" TYPE | FUNNEL;
    Dp4a "dp4a" TYPE; Dp2a "dp2a" TYPE | HALF;
    Testp "testp" TYPE | CLASS; Copysign "copysign" TYPE;
    Rcp "rcp" FLOAT; Sqrt "sqrt" FLOAT; Rsqrt "rsqrt" FLOAT; Sin "sin" FLOAT; Cos "cos" FLOAT; Lg2 "lg2" FLOAT;
    Ex2 "ex2" FLOAT; Tanh "tanh" FLOAT;
    Set "set" TYPE | FTZ | COMPARE | OPERATION; Setp "setp" TYPE | FTZ | COMPARE | OPERATION;
    Selp "selp" TYPE; Slct "slct" TYPE | FTZ;
    And "and" TYPE; Or "or" TYPE; Xor "xor" TYPE; Not "not" TYPE; Cnot "cnot" TYPE; Lop3 "lop3" TYPE | OPERATION;
    Shf "shf" TYPE | FUNNEL; Shl "shl" TYPE; Shr "shr" TYPE; Prmt "prmt" TYPE | PRMT;
    Mov "mov" TYPE | VECTOR; Ld "ld" ACCESS; Ldu "ldu" ACCESS; St "st" ACCESS | OPERATION | BARRIER | COPY;
    Cvt "cvt" FLOAT | INTEGRAL | RELU | PACK; Cvta "cvta" SPACE | TO | TYPE; Isspacep "isspacep" SPACE;
    Prefetch "prefetch" ANY; Prefetchu "prefetchu" ANY; ApplyPriority "applypriority" ANY; Discard "discard" ANY;
    CreatePolicy "createpolicy" ANY;
    Shfl "shfl" WARP | SHUFFLE | TYPE; Vote "vote" WARP | VOTE | TYPE; Match "match" WARP | VOTE | TYPE;
    Redux "redux" WARP | OPERATION | TYPE | NAN | ABS; Activemask "activemask" TYPE; Elect "elect" WARP;
    Atom "atom" ACCESS | OPERATION | NOFTZ; Red "red" ANY;
    Bar "bar" BLOCK; Barrier "barrier" BLOCK; Membar "membar" ANY; Fence "fence" ANY;
    Bra "bra" UNIFORM; Brx "brx" UNIFORM; Call "call" UNIFORM; Ret "ret" UNIFORM; Exit "exit" 0; Trap "trap" 0;
    Brkpt "brkpt" 0; Nanosleep "nanosleep" TYPE; Pmevent "pmevent" ANY; Griddepcontrol "griddepcontrol" ANY;
    Setmaxnreg "setmaxnreg" ANY;
    Cp "cp" ANY; Mbarrier "mbarrier" ANY; Mapa "mapa" SPACE | TYPE; Getctarank "getctarank" SPACE | TYPE;
    Multimem "multimem" ANY; Ldmatrix "ldmatrix" WARP | MATRIX | SPACE | TYPE; Clusterlaunchcontrol "clusterlaunchcontrol" ANY;
    Stmatrix "stmatrix" WARP | MATRIX | SPACE | TYPE; Movmatrix "movmatrix" WARP | MATRIX | TYPE;
    Mma "mma" ANY; Wmma "wmma" ANY; Wgmma "wgmma" ANY; Tcgen05 "tcgen05" ANY; Tensormap "tensormap" ANY;
    Tex "tex" ANY; Tld4 "tld4" ANY; Txq "txq" ANY; Suld "suld" ANY; Sust "sust" ANY; Sured "sured" ANY; Suq "suq" ANY;
    Istypep "istypep" ANY; Alloca "alloca" ANY; Stacksave "stacksave" ANY; Stackrestore "stackrestore" ANY;
    Vadd "vadd" SIMD; Vsub "vsub" SIMD; Vabsdiff "vabsdiff" SIMD; Vmin "vmin" SIMD; Vmax "vmax" SIMD; Vshl "vshl" SIMD;
    Vshr "vshr" SIMD; Vmad "vmad" SIMD; Vset "vset" SIMD;
    Vadd2 "vadd2" SIMD; Vsub2 "vsub2" SIMD; Vavrg2 "vavrg2" SIMD; Vabsdiff2 "vabsdiff2" SIMD; Vmin2 "vmin2" SIMD;
    Vmax2 "vmax2" SIMD; Vset2 "vset2" SIMD;
    Vadd4 "vadd4" SIMD; Vsub4 "vsub4" SIMD; Vavrg4 "vavrg4" SIMD; Vabsdiff4 "vabsdiff4" SIMD; Vmin4 "vmin4" SIMD;
    Vmax4 "vmax4" SIMD; Vset4 "vset4" SIMD;
}
