//! Functions that may call themselves: one copy of each in a kernel, called rather than inlined.
//!
//! A thread's frames of such functions lie one behind another in its local memory, behind what the kernel needs itself;
//! one register, the stack pointer, holds where the running function's frame begins. A call saves what its function
//! still needs ([`super::stack`] finds out what that is), puts the arguments into the callee's places, notes the number
//! of the place to return to and jumps; the callee's end is a jump to the place with the noted number.

use super::Lowered;
use super::body::Body;
use super::call::Passed;
use super::scope::Frame;
use super::slot::Slot;
use super::{layout, types};
use crate::ast::Function;
use crate::ir::{Binary, BlockId, Operand, Reg, Terminator, Type, Width};
use std::ops::Range;

/// A function of which a kernel has a copy to call.
#[derive(Debug)]
pub(super) struct Routine<'m, 'a> {
    position: usize,
    /// The functions with which it may call itself.
    pub(super) cycle: u32,
    pub(super) entry: BlockId,
    /// Where it returns.
    pub(super) exit: BlockId,
    /// Number of the place to return to.
    pub(super) site: Reg,
    params: Vec<Slot>,
    pub(super) returns: Vec<Slot>,
    /// Names of parameters, until the body is lowered.
    frame: Option<Frame<'m, 'a>>,
    /// Bytes of its parameters, then of all its local variables.
    pub(super) locals: u64,
    /// Blocks of its body, as places in the order of the text.
    pub(super) blocks: Range<usize>,
    /// Registers of its body and of its parameters.
    pub(super) registers: [Range<u32>; 2],
}

/// A call of a routine.
#[derive(Debug)]
pub(super) struct Site {
    /// The routine that calls, or the kernel.
    pub(super) caller: Option<usize>,
    pub(super) callee: usize,
    /// Leaves the caller: saves its registers, passes arguments.
    pub(super) leave: BlockId,
    /// Comes back: takes results out of the callee's frame.
    pub(super) back: BlockId,
    /// Restores registers, hands results out.
    pub(super) restore: BlockId,
}

/// A value on its way between frames, in registers.
#[derive(Debug)]
enum Held {
    /// As the slot.
    Whole(Slot),
    /// Pieces and their offsets.
    Pieces(Vec<(i64, Type, Reg)>),
    Constant(u64),
}

impl<'m, 'a> Body<'m, 'a> {
    /// Whether local memory is addressed from the stack pointer here.
    pub(super) fn framed(&self) -> Option<Reg> {
        self.stack_pointer.filter(|_| self.in_frame)
    }

    /// An address in the frame as a value of a type.
    pub(super) fn framed_value(&mut self, pointer: Reg, offset: i64, ty: Type) -> Operand {
        let sum = self.writer.register(Width::B32);
        self.binary(Binary::Add, Type::U32, sum, Operand::Reg(pointer), Operand::Imm(offset as u32 as u64));
        if types::size(ty) != 8 {
            return Operand::Reg(sum);
        }
        let wide = self.writer.register(Width::B64);
        self.extend(Type::U32, wide, sum);
        Operand::Reg(wide)
    }

    /// The routine of a function, made when it is first called.
    fn routine(&mut self, position: usize, cycle: u32, function: &'m Function<'a>) -> Lowered<usize> {
        if let Some(known) = self.routines.iter().position(|routine| routine.position == position) {
            return Ok(known);
        }
        let (entry, exit) = (self.writer.block(), self.writer.block());
        if self.stack_pointer.is_none() {
            self.stack_pointer = Some(self.writer.register(Width::B32));
        }
        let first = self.writer.registers.len() as u32;
        let site = self.writer.register(Width::B32);
        self.frames.push(Frame::new(position, Some(exit)));
        let (top, bytes) = (std::mem::take(&mut self.local_top), std::mem::take(&mut self.local_bytes));
        let params: Lowered<Vec<Slot>> = function.params.iter().map(|it| self.parameter(it)).collect();
        let returns: Lowered<Vec<Slot>> = function.returns.iter().map(|it| self.parameter(it)).collect();
        let locals = std::mem::replace(&mut self.local_top, top);
        self.local_bytes = bytes;
        let frame = self.frames.pop();
        let registers = [first..self.writer.registers.len() as u32, 0..0];
        let (params, returns) = (params?, returns?);
        self.routines.push(Routine {
            position,
            cycle,
            entry,
            exit,
            site,
            params,
            returns,
            frame,
            locals,
            blocks: 0..0,
            registers,
        });
        Ok(self.routines.len() - 1)
    }

    /// Calls a function that may call itself.
    pub(super) fn call_routine(
        &mut self,
        position: usize,
        cycle: u32,
        results: &[Passed],
        arguments: &[Passed],
    ) -> Lowered<()> {
        let Some(function) = self.index.at(position) else { return self.invalid("the function is not declared") };
        let end = self.writer.block();
        self.enter_guard(end);
        let callee = self.routine(position, cycle, function)?;
        let Some(routine) = self.routines.get(callee) else { return Ok(()) };
        let (entry, number) = (routine.entry, routine.site);
        let (params, returns) = (routine.params.clone(), routine.returns.clone());
        let arguments: Vec<Held> = arguments.iter().map(|argument| self.hold(*argument)).collect();

        let [leave, back, restore] = [(); 3].map(|()| self.writer.block());
        let here = std::mem::replace(&mut self.in_frame, true);
        self.writer.place(leave);
        for ((place, held), variable) in params.iter().zip(arguments).zip(&function.params) {
            self.hand_over(*place, held, layout::element(variable)?);
        }
        let before = self.sites.iter().filter(|site| site.callee == callee).count();
        self.writer.mov(Type::B32, number, Operand::Imm(before as u64));
        self.writer.end(Terminator::Jump(entry));
        self.sites.push(Site { caller: self.current, callee, leave, back, restore });

        self.writer.place(back);
        let given: Vec<Held> = returns.iter().map(|place| self.hold(Passed::Slot(*place))).collect();
        self.in_frame = here;
        self.writer.place(restore);
        for (held, result) in given.into_iter().zip(results) {
            match *result {
                Passed::Slot(Slot::Register(register, ty)) => self.hand_over(Slot::Register(register, ty), held, ty),
                Passed::Slot(slot) => self.hand_over(slot, held, Type::B64),
                Passed::Register(register, ty) => match held {
                    Held::Whole(slot) => self.load_slot(slot, 0, ty, vec![Some(register)]),
                    held => self.hand_over(Slot::Register(register, ty), held, ty),
                },
                Passed::Constant(_) => return self.invalid("a constant cannot receive a result"),
            }
        }
        self.writer.place(end);
        Ok(())
    }

    /// Reads a value into registers of its own.
    fn hold(&mut self, passed: Passed) -> Held {
        match passed {
            Passed::Constant(value) => Held::Constant(value),
            Passed::Register(register, ty) | Passed::Slot(Slot::Register(register, ty)) => {
                let width = self.writer.width(register);
                let copy = self.writer.register(width);
                self.writer.mov(types::untyped(width), copy, Operand::Reg(register));
                Held::Whole(Slot::Register(copy, ty))
            }
            Passed::Slot(slot @ Slot::Memory(_, size)) => {
                let mut pieces = Vec::new();
                let mut at = 0;
                while at < size as i64 {
                    let ty = super::slot::piece(size as i64 - at);
                    let d = self.writer.temporary(ty);
                    self.load_slot(slot, at, ty, vec![Some(d)]);
                    pieces.push((at, ty, d));
                    at += i64::from(types::size(ty));
                }
                Held::Pieces(pieces)
            }
        }
    }

    /// Writes what was held into a slot; `ty` is the slot's, for constants and scalars.
    fn hand_over(&mut self, to: Slot, held: Held, ty: Type) {
        let size = match to {
            Slot::Register(_, ty) => u64::from(types::size(ty)),
            Slot::Memory(_, size) => size,
        };
        match held {
            Held::Whole(slot) => self.copy_slot(to, slot),
            Held::Constant(value) => self.store_slot(to, 0, ty, vec![Operand::Imm(value)]),
            Held::Pieces(pieces) => {
                for (at, ty, register) in pieces {
                    if at as u64 + u64::from(types::size(ty)) <= size {
                        self.store_slot(to, at, ty, vec![Operand::Reg(register)]);
                    }
                }
            }
        }
    }

    /// Lowers the bodies of the routines that are called, behind the kernel's own text. False when the kernel is given up.
    pub(super) fn lower_routines(&mut self) -> bool {
        let kernel = std::mem::take(&mut self.frames);
        let bytes = self.local_bytes;
        let mut next = 0;
        while let Some(routine) = self.routines.get_mut(next) {
            let Some(function) = self.index.at(routine.position) else { return false };
            let (entry, exit, site) = (routine.entry, routine.exit, routine.site);
            self.frames.extend(routine.frame.take());
            self.local_top = routine.locals;
            self.local_bytes = routine.locals;
            (self.current, self.in_frame) = (Some(next), true);
            self.writer.guard = None;
            self.writer.end(Terminator::Exit);
            let (block, register) = (self.writer.placed(), self.writer.registers.len() as u32);
            self.writer.place(entry);
            if !self.statements(function.body.as_deref().unwrap_or_default()) {
                return false;
            }
            self.writer.guard = None;
            self.writer.place(exit);
            self.writer.end(Terminator::Switch { index: Operand::Reg(site), targets: Vec::new() });
            self.frames.clear();
            let (blocks, registers) = (block..self.writer.placed(), register..self.writer.registers.len() as u32);
            let locals = self.local_bytes;
            if let Some(routine) = self.routines.get_mut(next) {
                routine.locals = locals;
                routine.blocks = blocks;
                routine.registers[1] = registers;
            }
            next += 1;
        }
        (self.current, self.in_frame) = (None, false);
        self.frames = kernel;
        self.local_bytes = bytes;
        true
    }

    /// Where the frames of routines begin: behind the kernel's own local memory.
    pub(super) fn stack_base(&self) -> u64 {
        layout::align_up(self.local_bytes, 16)
    }
}
