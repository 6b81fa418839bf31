//! Lowers a kernel: its statements one by one, and the bodies of the functions that it calls.

use super::block::Writer;
use super::index::{Index, Shared};
use super::routine::{Routine, Site};
use super::scope::{Frame, Local};
use super::{ENOUGH, Fault, Lowered, layout, simplify, types};
use crate::ast::{Instruction, Linkage, Name, StateSpace, Statement, Variable};
use crate::diagnostics::Diagnostic;
use crate::ir::{Binary, Kernel, Op, Operand, Reg, Type};
use crate::parser::FastMap;

/// Instructions in one kernel, calls inlined, beyond which we give up.
const LARGEST_KERNEL: usize = 4_000_000;
/// Registers that one declaration may make.
const MOST_REGISTERS: u32 = 1 << 22;
/// The strictest alignment of a shared or local variable that we serve. A block begins at a multiple of the strictest.
const LARGEST_ALIGN: u64 = 4096;
/// Local memory of a thread, as CUDA limits it.
pub(super) const LARGEST_LOCAL: u64 = 512 << 10;

/// A kernel being lowered.
#[derive(Debug)]
pub(super) struct Body<'m, 'a> {
    pub(super) index: &'m Index<'m, 'a>,
    pub(super) writer: Writer,
    /// Functions being inlined, the kernel first.
    pub(super) frames: Vec<Frame<'m, 'a>>,
    /// Places of shared variables by their number.
    shared: FastMap<u32, i64>,
    pub(super) local_top: u64,
    pub(super) local_bytes: u64,
    /// The strictest alignment of a variable in local memory.
    pub(super) local_align: u64,
    /// Functions that may call themselves, and where they are called.
    pub(super) routines: Vec<Routine<'m, 'a>>,
    pub(super) sites: Vec<Site>,
    /// Where the frame of the running routine begins, once there is one.
    pub(super) stack_pointer: Option<Reg>,
    /// The routine being lowered.
    pub(super) current: Option<usize>,
    /// Whether local memory is addressed from the stack pointer.
    pub(super) in_frame: bool,
    /// Size of the kernel's parameters.
    pub(super) param_bytes: u32,
    /// The carry flag, once it is used.
    pub(super) carry: Option<Reg>,
    faults: Vec<Fault>,
}

/// Lowers the kernel at a position.
pub(super) fn kernel<'m, 'a>(index: &'m Index<'m, 'a>, position: usize) -> Result<Kernel, Vec<Fault>> {
    let one = |fault| vec![fault];
    let Some(function) = index.at(position) else { return Err(Vec::new()) };
    let (params, param_bytes) = layout::parameters(&function.params).map_err(one)?;
    let Shared { places: shared, bytes: shared_bytes, align: shared_align } =
        index.shared_layout(position).map_err(one)?;
    let mut body = Body {
        index,
        writer: Writer::new(),
        frames: vec![Frame::new(position, None)],
        shared,
        local_top: 0,
        local_bytes: 0,
        local_align: 16,
        routines: Vec::new(),
        sites: Vec::new(),
        stack_pointer: None,
        current: None,
        in_frame: false,
        param_bytes,
        carry: None,
        faults: Vec::new(),
    };
    for (variable, param) in function.params.iter().zip(&params) {
        let meaning = Local::Parameter(i64::from(param.offset));
        body.declare_name(variable.name, meaning).map_err(one)?;
    }
    let cluster = function.required_cluster;
    if cluster.iter().any(|&extent| extent > 1) {
        body.writer.at = function.name.at;
        body.unsupported::<()>("clusters of more than one block are not supported").map_err(one)?;
    }
    body.statements(function.body.as_deref().unwrap_or_default());
    if body.faults.is_empty() {
        body.lower_routines();
    }
    if !body.faults.is_empty() {
        return Err(body.faults);
    }
    let stack_frames = body.join_frames().map_err(one)?;
    let memory_align = body.local_align.max(shared_align);
    if memory_align > LARGEST_ALIGN {
        body.writer.at = function.name.at;
        body.unsupported::<()>(format!("alignments beyond {LARGEST_ALIGN} bytes are not supported")).map_err(one)?;
    }
    let (registers, blocks) = body.writer.finish();
    Ok(Kernel {
        name: function.name.text.to_owned(),
        params,
        param_bytes,
        registers,
        blocks: simplify::simplify(blocks),
        shared_bytes,
        local_bytes: body.local_bytes as u32,
        memory_align: memory_align as u32,
        stack_frames,
        required_block: function.required_block,
        max_threads: function.max_threads,
    })
}

impl<'m, 'a> Body<'m, 'a> {
    /// The innermost function.
    pub(super) fn frame(&mut self) -> &mut Frame<'m, 'a> {
        if self.frames.is_empty() {
            self.frames.push(Frame::new(0, None));
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    pub(super) fn invalid<T>(&self, message: impl Into<String>) -> Lowered<T> {
        Err(Fault::Invalid(Diagnostic::error(self.writer.at, message)))
    }

    pub(super) fn unsupported<T>(&self, message: impl Into<String>) -> Lowered<T> {
        Err(Fault::Unsupported(Diagnostic::error(self.writer.at, message)))
    }

    pub(super) fn binary(&mut self, op: Binary, ty: Type, d: Reg, a: Operand, b: Operand) {
        self.writer.emit(Op::Binary { op, ty, modifiers: Default::default(), d, a, b });
    }

    /// Lowers statements. False when the kernel is given up.
    pub(super) fn statements(&mut self, body: &'m [Statement<'a>]) -> bool {
        let writer = &mut self.writer;
        let Some(frame) = self.frames.last_mut() else { return false };
        if let Some(twice) = frame.collect(body, || writer.block()) {
            let message = format!("the label `{}` is there twice", twice.text);
            self.faults.push(Fault::Invalid(Diagnostic::error(twice.at, message)));
            return false;
        }
        for statement in body {
            let result = match statement {
                Statement::Instruction(instruction) => self.guarded(instruction),
                Statement::Label(name) => {
                    if let Some(block) = self.frame().own_label(name.text) {
                        self.writer.place(block);
                    }
                    Ok(())
                }
                Statement::Variable(variable) => self.variable(variable),
                Statement::Open => {
                    let top = self.local_top;
                    self.frame().open(top);
                    Ok(())
                }
                Statement::Close => {
                    if let Some(top) = self.frame().close() {
                        self.local_top = top;
                    }
                    Ok(())
                }
                Statement::Targets(..) | Statement::Prototype(_) => Ok(()),
            };
            if let Err(fault) = result {
                let give_up = matches!(fault, Fault::Unsupported(_));
                self.faults.push(fault);
                if give_up || self.faults.len() >= ENOUGH {
                    return false;
                }
            }
            if self.writer.written > LARGEST_KERNEL {
                let message = "the kernel with its calls inlined is too long to compile";
                self.faults.push(Fault::Unsupported(Diagnostic::error(self.writer.at, message)));
                return false;
            }
        }
        true
    }

    /// Lowers an instruction with its guard.
    fn guarded(&mut self, instruction: &'m Instruction<'a>) -> Lowered<()> {
        self.writer.guard = None;
        if let Some(guard) = instruction.guard {
            self.writer.at = guard.name.at;
            let mut p = self.predicate_register(guard.name.text)?;
            p.negated ^= guard.negated;
            self.writer.guard = Some(p);
        }
        self.writer.at = instruction.at;
        let mark = self.writer.mark();
        self.instruction(instruction)?;
        let Some(guard) = self.writer.guard else { return Ok(()) };
        // An instruction that became several must not lose its guard on the way.
        let next = self.writer.registers.len() as u32;
        let Some(written) = self.writer.since(mark) else { return Ok(()) };
        let Some(written) = written.get_mut(mark.1..) else { return Ok(()) };
        if written.len() < 2 || !super::special::writes(written, guard.register) {
            return Ok(());
        }
        for instruction in written {
            if let Some(own) = &mut instruction.guard
                && own.register == guard.register
            {
                own.register = Reg(next);
            }
        }
        let copy = self.writer.register(crate::ir::Width::Pred);
        let op = Op::Mov { ty: Type::Pred, d: copy, a: Operand::Reg(guard.register) };
        let at = self.writer.at;
        if let Some(all) = self.writer.since(mark) {
            all.insert(mark.1, crate::ir::Instruction { guard: None, op, at });
        }
        Ok(())
    }

    fn declare_name(&mut self, name: Name<'a>, meaning: Local) -> Lowered<()> {
        if self.frame().declare(name.text, meaning) {
            return Ok(());
        }
        Err(Fault::Invalid(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text))))
    }

    /// Gives a parameter of an inlined function its place.
    pub(super) fn declare(&mut self, name: Name<'a>, meaning: Local) -> Lowered<()> {
        self.declare_name(name, meaning)
    }

    /// Gives out local memory; its alignment is at least eight.
    pub(super) fn local(&mut self, size: u64, align: u64) -> Lowered<i64> {
        self.local_align = self.local_align.max(align);
        let offset = layout::align_up(self.local_top, align.max(8));
        self.local_top = offset.saturating_add(size);
        if self.local_top > LARGEST_LOCAL {
            return self.invalid(format!("the kernel needs more than {LARGEST_LOCAL} bytes of local memory"));
        }
        self.local_bytes = self.local_bytes.max(self.local_top);
        Ok(offset as i64)
    }

    /// Runs `lower` and gives back the local memory that it took.
    pub(super) fn with_locals<T>(&mut self, lower: impl FnOnce(&mut Self) -> T) -> T {
        let top = self.local_top;
        let result = lower(self);
        self.local_top = top;
        result
    }

    fn variable(&mut self, variable: &'m Variable<'a>) -> Lowered<()> {
        self.writer.at = variable.name.at;
        let name = variable.name;
        let meaning = match variable.space {
            StateSpace::Reg => return self.registers(variable),
            StateSpace::Local => {
                let offset = self.local(layout::size(variable)?, layout::align(variable)?)?;
                self.frame().keep_local();
                Local::Memory(offset)
            }
            StateSpace::Param => Local::Slot(self.slot(variable, self.is_addressed(name.text))?),
            StateSpace::Shared => match self.shared_place(variable) {
                Some(offset) => Local::Shared(offset),
                None => return self.invalid(format!("`{}` has no place in shared memory", name.text)),
            },
            StateSpace::Global | StateSpace::Const => {
                return self.invalid("a `.global` or `.const` variable inside a function: expected it at module scope");
            }
        };
        if variable.initial.is_some() || (variable.linkage == Linkage::Visible) {
            return self.invalid(format!("`{}` cannot have an initial value or be visible here", name.text));
        }
        self.declare_name(name, meaning)
    }

    /// Whether the function being lowered takes the address of a name.
    pub(super) fn is_addressed(&self, name: &str) -> bool {
        let function = self.frames.last().map_or(0, |frame| frame.function);
        self.index.facts(function).is_some_and(|facts| facts.addressed.contains_key(name))
    }

    pub(super) fn shared_place(&self, variable: &Variable<'_>) -> Option<i64> {
        self.shared.get(&variable.id).copied()
    }

    fn registers(&mut self, variable: &'m Variable<'a>) -> Lowered<()> {
        let ty = layout::element(variable)?;
        let width = types::width(ty);
        if !variable.extents.is_empty() {
            return self.unsupported("arrays of registers are not supported");
        }
        match variable.range {
            Some(count) => {
                if count > MOST_REGISTERS || variable.vector != 1 {
                    return self
                        .invalid(format!("`{count}` registers are too many: expected at most {MOST_REGISTERS}"));
                }
                let first = Reg(self.writer.registers.len() as u32);
                let all = self.writer.registers.len() + count as usize;
                if all > 8 * MOST_REGISTERS as usize {
                    return self.unsupported("the kernel with its calls inlined has too many registers");
                }
                self.writer.registers.resize(all, width);
                self.frame().declare_range(variable.name.text, first, count, ty);
                Ok(())
            }
            None => {
                let first = self.writer.register(width);
                for _ in 1..variable.vector {
                    self.writer.register(width);
                }
                let meaning = match variable.vector {
                    1 => Local::Register(first, ty),
                    count => Local::Vector(first, count, ty),
                };
                self.declare_name(variable.name, meaning)
            }
        }
    }
}
