//! A PTX module as it is written.
//!
//! A text may hold several modules, one behind another, as a linker's input: each is a unit, whose hidden names are its
//! own.
//! Names borrow the text. Bodies are flat: nested scopes are [`Statement::Open`] and [`Statement::Close`], so that depth
//! costs no stack.

use crate::Position;
pub use crate::mnemonic::{Mnemonic, Opcode, Suffix};

/// A module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Module<'a> {
    /// `.version`, the newest of all units.
    pub version: (u32, u32),
    /// `.target`: the number of `sm_80`, the greatest of all units.
    pub target: u32,
    /// `.address_size`, 64 where absent.
    pub address_size: u32,
    /// The distinct mnemonics; instructions refer to them by number.
    pub mnemonics: Vec<Mnemonic<'a>>,
    /// Module-scope variables.
    pub variables: Vec<Variable<'a>>,
    /// Kernels and functions, definitions and declarations.
    pub functions: Vec<Function<'a>>,
    /// `.alias name, target`, and the unit.
    pub aliases: Vec<(Name<'a>, Name<'a>, u32)>,
}

/// A name and where it stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Name<'a> {
    /// The name.
    pub text: &'a str,
    /// Where.
    pub at: Position,
}

/// Linking directives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Linkage {
    /// Known in this module only.
    #[default]
    Hidden,
    /// `.visible`.
    Visible,
    /// `.extern`.
    Extern,
    /// `.weak`.
    Weak,
    /// `.common`.
    Common,
}

/// A kernel or a function.
#[derive(Clone, PartialEq, Debug)]
pub struct Function<'a> {
    /// Name.
    pub name: Name<'a>,
    /// `.entry` rather than `.func`.
    pub entry: bool,
    /// Linkage.
    pub linkage: Linkage,
    /// The unit that it belongs to.
    pub unit: u32,
    /// Return parameters.
    pub returns: Vec<Variable<'a>>,
    /// Parameters.
    pub params: Vec<Variable<'a>>,
    /// `.maxntid` as a product, or 0.
    pub max_threads: u32,
    /// `.reqntid`, or zeros.
    pub required_block: [u32; 3],
    /// `.reqnctapercluster`, or zeros.
    pub required_cluster: [u32; 3],
    /// The body; `None` for a declaration.
    pub body: Option<Vec<Statement<'a>>>,
}

/// Where a variable lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "PTX's own names")]
pub enum StateSpace {
    Reg,
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// A variable of any state space.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable<'a> {
    /// Name; of a range such as `%r<12>`, the part before the number.
    pub name: Name<'a>,
    /// A number of its own within the module.
    pub id: u32,
    /// The unit that it belongs to.
    pub unit: u32,
    /// State space.
    pub space: StateSpace,
    /// Linkage.
    pub linkage: Linkage,
    /// `.align`.
    pub align: Option<u64>,
    /// Type of an element.
    pub ty: Suffix,
    /// `.v2`, `.v4`: elements in a vector, else 1.
    pub vector: u32,
    /// Extents of an array, outermost first; `None` for an extent that is left open.
    pub extents: Vec<Option<u64>>,
    /// `<12>`: registers `%r0` to `%r11`.
    pub range: Option<u32>,
    /// Initial value.
    pub initial: Option<Initial<'a>>,
    /// `.attribute(.managed)`.
    pub managed: bool,
}

/// An initial value.
#[derive(Clone, PartialEq, Debug)]
pub enum Initial<'a> {
    /// A constant.
    Constant(Constant),
    /// The address of a variable or function plus an offset; a mask such as `0xff00` asks for one byte of it.
    Symbol {
        /// What it is the address of.
        name: Name<'a>,
        /// Added to it.
        offset: i64,
        /// Which bits of it.
        mask: Option<u64>,
    },
    /// Elements in braces.
    List(Vec<Initial<'a>>),
}

/// A constant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Constant {
    /// An integer.
    Integer(u64),
    /// `0f…`.
    Single(u32),
    /// `0d…`, or a decimal literal.
    Double(u64),
}

/// A statement of a body.
#[derive(Clone, PartialEq, Debug)]
pub enum Statement<'a> {
    /// An instruction.
    Instruction(Instruction<'a>),
    /// A label.
    Label(Name<'a>),
    /// A declaration.
    Variable(Box<Variable<'a>>),
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// `name: .branchtargets a, b;` or `.calltargets`.
    Targets(Name<'a>, Vec<Name<'a>>),
    /// `name: .callprototype …`: only its name matters.
    Prototype(Name<'a>),
}

/// A guard: `@p` or `@!p`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Guard<'a> {
    /// The predicate.
    pub name: Name<'a>,
    /// `!`.
    pub negated: bool,
}

/// An instruction.
#[derive(Clone, PartialEq, Debug)]
pub struct Instruction<'a> {
    /// Where its mnemonic stands.
    pub at: Position,
    /// Guard.
    pub guard: Option<Guard<'a>>,
    /// Position in [`Module::mnemonics`].
    pub mnemonic: u32,
    /// Operands in order.
    pub operands: Vec<Operand<'a>>,
}

/// An operand and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Operand<'a> {
    /// Where.
    pub at: Position,
    /// What.
    pub kind: OperandKind<'a>,
}

/// What an operand is.
#[derive(Clone, PartialEq, Debug)]
pub enum OperandKind<'a> {
    /// A register, variable, label or function.
    Name(&'a str),
    /// `%tid.x`, or an element of a vector register.
    Member(&'a str, &'a str),
    /// `!p`.
    Not(&'a str),
    /// `name+4`.
    Offset(&'a str, i64),
    /// A constant.
    Constant(Constant),
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `p|q`.
    Pair(Box<[Operand<'a>; 2]>),
    /// `_`.
    Sink,
    /// `[base+offset]`, with the coordinates that texture and bulk-copy instructions add.
    Address(Box<Operand<'a>>, Vec<Operand<'a>>),
    /// `(a, b)`: arguments of a call.
    Group(Vec<Operand<'a>>),
}
