//! Random functions that call one another and themselves, compared with what their text means.

use super::*;
use std::fmt::Write;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Words, wide words and predicates of a function.
const WORDS: usize = 5;
const WIDES: usize = 3;
const FLAGS: usize = 3;
const FUNCTIONS: usize = 3;

#[derive(Debug)]
enum Step {
    /// `d = a op b` on words.
    Word(&'static str, [usize; 3]),
    /// `d = a op b` on wide words, `b` widened.
    Wide(&'static str, [usize; 3]),
    Compare([usize; 3]),
    Select([usize; 4]),
    Narrow([usize; 2]),
    If(usize, Vec<Step>, Vec<Step>),
    /// `d = f(n - 1, a, w)`.
    Call {
        function: usize,
        d: usize,
        a: usize,
        w: usize,
        through: bool,
    },
    /// Own variables, and through the pointer those of the caller.
    Put {
        up: bool,
        index: usize,
        a: usize,
    },
    Get {
        up: bool,
        index: usize,
        d: usize,
    },
    Loop(usize, Vec<Step>),
}

fn steps(random: &mut Random, count: usize, depth: usize, calls: &mut usize) -> Vec<Step> {
    (0..count)
        .map(|_| {
            let word = |random: &mut Random| random.below(WORDS);
            match random.below(if depth > 0 { 14 } else { 11 }) {
                0..3 => Step::Word(
                    ["add.u32", "xor.b32", "mul.lo.u32", "sub.u32"][random.below(4)],
                    [(); 3].map(|()| word(random)),
                ),
                3 => Step::Wide(
                    ["add.u64", "xor.b64", "sub.u64"][random.below(3)],
                    [random.below(WIDES), random.below(WIDES), word(random)],
                ),
                4 => Step::Compare([random.below(FLAGS), word(random), word(random)]),
                5 => Step::Select([word(random), word(random), word(random), random.below(FLAGS)]),
                6 => Step::Narrow([word(random), random.below(WIDES)]),
                7 => Step::Put { up: random.below(3) == 0, index: word(random), a: word(random) },
                8 => Step::Get { up: random.below(3) == 0, index: word(random), d: word(random) },
                9 | 10 if *calls > 0 => {
                    *calls -= 1;
                    let function = random.below(FUNCTIONS);
                    Step::Call {
                        function,
                        d: word(random),
                        a: word(random),
                        w: random.below(WIDES),
                        through: random.below(4) == 0,
                    }
                }
                11 => Step::Loop(1 + random.below(2), steps(random, 3, 0, &mut 0)),
                12 | 13 => {
                    let flag = random.below(FLAGS);
                    Step::If(flag, steps(random, 3, depth - 1, calls), steps(random, 3, depth - 1, calls))
                }
                _ => Step::Word("add.u32", [(); 3].map(|()| word(random))),
            }
        })
        .collect()
}

#[derive(Default)]
struct Text {
    out: String,
    labels: usize,
}

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.out.write_fmt(line).unwrap();
        self.out.push('\n');
    }

    fn label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Word(op, [d, a, b]) => self.line(format_args!("{op} %r{d}, %r{a}, %r{b};")),
                Step::Wide(op, [d, a, b]) => {
                    self.line(format_args!("cvt.u64.u32 %w7, %r{b}; {op} %w{d}, %w{a}, %w7;"));
                }
                Step::Compare([p, a, b]) => self.line(format_args!("setp.lt.u32 %p{p}, %r{a}, %r{b};")),
                Step::Select([d, a, b, p]) => self.line(format_args!("selp.b32 %r{d}, %r{a}, %r{b}, %p{p};")),
                Step::Narrow([d, a]) => self.line(format_args!("cvt.u32.u64 %r{d}, %w{a};")),
                Step::If(p, yes, no) => {
                    let label = self.label();
                    self.line(format_args!("@!%p{p} bra N{label};"));
                    self.steps(yes);
                    self.line(format_args!("bra E{label}; N{label}:"));
                    self.steps(no);
                    self.line(format_args!("E{label}:"));
                }
                Step::Loop(count, inside) => {
                    let label = self.label();
                    self.line(format_args!("mov.u32 %c{label}, 0; L{label}:"));
                    self.steps(inside);
                    self.line(format_args!(
                        "add.u32 %c{label}, %c{label}, 1; setp.lt.u32 %p8, %c{label}, {count}; @%p8 bra L{label};"
                    ));
                }
                Step::Call { function, d, a, w, through } => {
                    self.line(format_args!("sub.u32 %r8, %n, 1; {{ .param .b32 a0; .param .b32 a1; .param .b64 a2; .param .b64 a3; .param .b32 x;"));
                    self.line(format_args!("st.param.b32 [a0], %r8; st.param.b32 [a1], %r{a}; st.param.b64 [a2], %w{w}; st.param.b64 [a3], %mine;"));
                    if *through {
                        self.line(format_args!("mov.u64 %w8, f{function}; t: .callprototype (.param .b32 _) _ (.param .b32 _, .param .b32 _, .param .b64 _, .param .b64 _);"));
                        self.line(format_args!("call (x), %w8, (a0, a1, a2, a3), t;"));
                    } else {
                        self.line(format_args!("call (x), f{function}, (a0, a1, a2, a3);"));
                    }
                    self.line(format_args!("ld.param.b32 %r{d}, [x]; }}"));
                }
                Step::Put { up, index, a } => {
                    let base = if *up { "%up" } else { "%mine" };
                    self.line(format_args!(
                        "and.b32 %r9, %r{index}, 3; mad.wide.u32 %w9, %r9, 4, {base}; st.u32 [%w9], %r{a};"
                    ));
                }
                Step::Get { up, index, d } => {
                    let base = if *up { "%up" } else { "%mine" };
                    self.line(format_args!(
                        "and.b32 %r9, %r{index}, 3; mad.wide.u32 %w9, %r9, 4, {base}; ld.u32 %r{d}, [%w9];"
                    ));
                }
            }
        }
    }
}

const REGISTERS: &str =
    ".reg .u32 %r<10>; .reg .u32 %n; .reg .u32 %c<200>; .reg .u64 %w<10>; .reg .u64 %up, %mine; .reg .pred %p<9>;
    .local .align 8 .b32 own[4]; mov.u64 %w9, own; cvta.local.u64 %mine, %w9; st.v4.u32 [%mine], {3, 5, 7, 11};";

fn text(functions: &[Vec<Step>]) -> String {
    let mut text = Text::default();
    text.line(format_args!(".version 8.0 .target sm_80 .address_size 64"));
    let parameters = "(.param .b32 a0, .param .b32 a1, .param .b64 a2, .param .b64 a3)";
    for f in 0..functions.len() {
        text.line(format_args!(".func (.param .b32 y) f{f} {parameters};"));
    }
    for (f, steps) in functions.iter().enumerate() {
        text.line(format_args!(".func (.param .b32 y) f{f} {parameters} {{ {REGISTERS}"));
        text.line(format_args!(
            "ld.param.u32 %n, [a0]; ld.param.u32 %r0, [a1]; ld.param.u64 %w0, [a2]; ld.param.u64 %up, [a3];"
        ));
        for r in 1..WORDS {
            text.line(format_args!("mad.lo.u32 %r{r}, %r0, {}, {f};", 7 * r + 1));
        }
        for w in 1..WIDES {
            text.line(format_args!("add.u64 %w{w}, %w0, {w};"));
        }
        for p in 0..FLAGS {
            text.line(format_args!("and.b32 %r9, %r0, {}; setp.ne.u32 %p{p}, %r9, 0;", 1 << p));
        }
        text.line(format_args!("setp.eq.u32 %p8, %n, 0; @%p8 bra DONE;"));
        text.steps(steps);
        text.line(format_args!(
            "DONE: cvt.u32.u64 %r9, %w1; xor.b32 %r9, %r9, %r1; ld.u32 %r8, [%mine+4]; add.u32 %r9, %r9, %r8;"
        ));
        text.line(format_args!("st.param.u32 [y], %r9; ret; }}"));
    }
    text.line(format_args!(".visible .entry k(.param .u64 out) {{ {REGISTERS}"));
    text.line(format_args!(
        "mov.u32 %r5, %tid.x; mov.u32 %r6, %tid.y; mov.u32 %r7, %ntid.x; mad.lo.u32 %r5, %r6, %r7, %r5;"
    ));
    text.line(format_args!(
        "rem.u32 %n, %r5, 5; add.u32 %n, %n, 1; mul.lo.u32 %r0, %r5, 2654435761; cvt.u64.u32 %w0, %r0;"
    ));
    text.steps(&[
        Step::Call { function: 0, d: 1, a: 0, w: 0, through: false },
        Step::Call { function: 1, d: 2, a: 1, w: 0, through: true },
    ]);
    text.line(format_args!("xor.b32 %r1, %r1, %r2; ld.u32 %r3, [%mine+8]; add.u32 %r1, %r1, %r3;"));
    text.line(format_args!("ld.param.u64 %w1, [out]; mad.wide.u32 %w1, %r5, 4, %w1; st.global.u32 [%w1], %r1; }}"));
    text.out
}

/// What one thread does.
struct Thread<'a> {
    functions: &'a [Vec<Step>],
    /// Variables of the active functions.
    frames: Vec<[u32; 4]>,
}

struct State {
    words: [u32; WORDS],
    wides: [u64; WIDES],
    flags: [bool; FLAGS],
    n: u32,
}

impl Thread<'_> {
    fn call(&mut self, function: usize, n: u32, a: u32, w: u64) -> u32 {
        self.frames.push([3, 5, 7, 11]);
        let words = std::array::from_fn(|r| match r {
            0 => a,
            r => a.wrapping_mul(7 * r as u32 + 1).wrapping_add(function as u32),
        });
        let wides = std::array::from_fn(|i| w.wrapping_add(i as u64));
        let mut state = State { words, wides, flags: std::array::from_fn(|p| a >> p & 1 != 0), n };
        let functions = self.functions;
        if n != 0 {
            self.steps(&functions[function], &mut state);
        }
        let own = self.frames.pop().unwrap();
        (state.wides[1] as u32 ^ state.words[1]).wrapping_add(own[1])
    }

    fn steps(&mut self, steps: &[Step], s: &mut State) {
        for step in steps {
            match step {
                Step::Word(op, [d, a, b]) => {
                    let (a, b) = (s.words[*a], s.words[*b]);
                    s.words[*d] = match *op {
                        "add.u32" => a.wrapping_add(b),
                        "xor.b32" => a ^ b,
                        "sub.u32" => a.wrapping_sub(b),
                        _ => a.wrapping_mul(b),
                    };
                }
                Step::Wide(op, [d, a, b]) => {
                    let (a, b) = (s.wides[*a], u64::from(s.words[*b]));
                    s.wides[*d] = match *op {
                        "add.u64" => a.wrapping_add(b),
                        "xor.b64" => a ^ b,
                        _ => a.wrapping_sub(b),
                    };
                }
                Step::Compare([p, a, b]) => s.flags[*p] = s.words[*a] < s.words[*b],
                Step::Select([d, a, b, p]) => s.words[*d] = s.words[if s.flags[*p] { *a } else { *b }],
                Step::Narrow([d, a]) => s.words[*d] = s.wides[*a] as u32,
                Step::If(p, yes, no) => self.steps(if s.flags[*p] { yes } else { no }, s),
                Step::Loop(count, inside) => (0..*count).for_each(|_| self.steps(inside, s)),
                Step::Call { function, d, a, w, .. } => {
                    s.words[*d] = self.call(*function, s.n - 1, s.words[*a], s.wides[*w]);
                }
                Step::Put { up, index, a } => *self.variable(*up, s.words[*index]) = s.words[*a],
                Step::Get { up, index, d } => s.words[*d] = *self.variable(*up, s.words[*index]),
            }
        }
    }

    fn variable(&mut self, up: bool, index: u32) -> &mut u32 {
        let frame = self.frames.len() - if up { 2 } else { 1 };
        &mut self.frames[frame][index as usize & 3]
    }

    fn kernel(functions: &[Vec<Step>], thread: u32) -> u32 {
        let mut it = Thread { functions, frames: vec![[3, 5, 7, 11]] };
        let (n, a) = (thread % 5 + 1, thread.wrapping_mul(2_654_435_761));
        let first = it.call(0, n - 1, a, u64::from(a));
        let second = it.call(1, n - 1, first, u64::from(a));
        (first ^ second).wrapping_add(it.frames[0][2])
    }
}

fn check(seed: u64, block: [u32; 3]) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let functions: Vec<Vec<Step>> = (0..FUNCTIONS).map(|_| steps(&mut random, 12, 2, &mut 3)).collect();
    let text = text(&functions);
    let module = crate::load(&text).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}\n{text}"));
    assert!(module.unsupported.is_empty(), "{:?}", module.unsupported);
    let threads = block.iter().product::<u32>();
    let memory = Memory::new(threads as usize * 4);
    let shape = LaunchShape { stack_bytes: 4096, ..shape([1; 3], block) };
    launch(&module.kernels[0], &memory, shape, &params(&[memory.address(0)]), &Surroundings::default()).unwrap();
    let found = memory.slice::<u32>(0, threads as usize);
    let wanted: Vec<u32> = (0..threads).map(|thread| Thread::kernel(&functions, thread)).collect();
    assert_eq!(found, wanted, "seed {seed}, block {block:?}\n{text}");
}

#[test]
fn random_functions_that_call_themselves_mean_what_their_text_says() {
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(4);
    let first: u64 = std::env::var("SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    for seed in first..first + rounds {
        for block in [[64, 1, 1], [16, 3, 1], [37, 1, 1]] {
            check(seed, block);
        }
    }
}
