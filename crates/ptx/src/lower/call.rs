//! Calls: inlined, handed to the runtime, or of functions that may call themselves ([`super::routine`]).

use super::Lowered;
use super::body::Body;
use super::index::Global;
use super::scope::{Frame, Local};
use super::slot::Slot;
use super::types;
use super::variable::FUNCTION_ADDRESSES;
use crate::ast::{Function, Instruction, Operand as AstOperand, OperandKind, StateSpace, Variable};
use crate::ir::{Compare, Op, Operand, Predicate, Reg, Runtime, Terminator, Type, Width};

/// Depth of calls that are inlined.
const DEEPEST: usize = 64;
/// Functions that a call through a register may reach.
const MOST_TARGETS: usize = 32;

/// What a call passes or receives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passed {
    Slot(Slot),
    Register(Reg, Type),
    Constant(u64),
}

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn call(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let mut operands = i.operands.as_slice();
        let mut results: &'m [AstOperand<'a>] = &[];
        if let [first, rest @ ..] = operands
            && let OperandKind::Group(list) = &first.kind
        {
            (results, operands) = (list, rest);
        }
        let Some((callee, operands)) = operands.split_first() else { return self.count(i, 1) };
        let OperandKind::Name(name) = callee.kind else { return self.fail(callee, "expected the name of a function") };
        let (arguments, list): (&'m [AstOperand<'a>], _) = match operands {
            [first, rest @ ..] => match &first.kind {
                OperandKind::Group(list) => (list, rest.first()),
                _ => (&[], Some(first)),
            },
            [] => (&[], None),
        };
        let results = self.passed(results)?;
        let arguments = self.passed(arguments)?;
        match self.local_name(name) {
            Some(Local::Register(register, ty)) if types::width(ty) == Width::B64 => {
                let targets = self.targets(list, results.len(), arguments.len())?;
                self.call_one_of(register, &targets, &results, &arguments)
            }
            Some(_) => self.fail(callee, format!("`{name}` is not a function: expected one")),
            None => match self.index.find(name, self.unit()) {
                Some(Global::Function(position)) => self.call_function(position, &results, &arguments),
                _ => self.fail(callee, format!("the function `{name}` is not declared")),
            },
        }
    }

    fn passed(&self, operands: &[AstOperand<'a>]) -> Lowered<Vec<Passed>> {
        operands
            .iter()
            .map(|operand| match operand.kind {
                OperandKind::Constant(crate::ast::Constant::Integer(value)) => Ok(Passed::Constant(value)),
                OperandKind::Name(name) => match self.local_name(name) {
                    Some(Local::Slot(slot)) => Ok(Passed::Slot(slot)),
                    Some(Local::Register(register, ty)) => Ok(Passed::Register(register, ty)),
                    Some(_) => {
                        self.fail(operand, format!("`{name}` cannot be passed: expected a parameter or a register"))
                    }
                    None => self.fail(operand, format!("`{name}` is not declared")),
                },
                _ => self.fail(operand, "expected a parameter, a register or a constant"),
            })
            .collect()
    }

    /// The functions that a call through a register may mean.
    fn targets(&self, list: Option<&AstOperand<'a>>, results: usize, arguments: usize) -> Lowered<Vec<usize>> {
        let Some(list) = list else {
            return self.invalid("a call through a register lacks its prototype or its list of targets");
        };
        let OperandKind::Name(name) = list.kind else {
            return self.fail(list, "expected a prototype or a list of targets");
        };
        let frame = self.frames.last();
        let mut targets = Vec::new();
        if let Some(names) = frame.and_then(|frame| frame.tables.get(name)) {
            for name in *names {
                match self.index.find(name.text, self.unit()) {
                    Some(Global::Function(position)) => targets.push(position),
                    _ => return self.fail(list, format!("the function `{}` is not declared", name.text)),
                }
            }
        } else if frame.is_some_and(|frame| frame.prototypes.contains(&name)) {
            let all = self.index.addressed_functions().iter().copied();
            targets.extend(all.filter(|&position| self.index.takes(position, results, arguments)));
        } else {
            return self.fail(list, format!("`{name}` is not a prototype or a list of targets"));
        }
        if targets.len() > MOST_TARGETS {
            return self.unsupported(format!("a call that may reach {} functions is not supported", targets.len()));
        }
        Ok(targets)
    }

    fn call_one_of(&mut self, callee: Reg, targets: &[usize], results: &[Passed], arguments: &[Passed]) -> Lowered<()> {
        let end = self.writer.block();
        self.enter_guard(end);
        for &target in targets {
            let p = self.writer.register(Width::Pred);
            let (a, b) = (Operand::Reg(callee), Operand::Imm(FUNCTION_ADDRESSES + target as u64));
            let op =
                Op::SetP { compare: Compare::Eq, ty: Type::B64, ftz: false, p: Some(p), q: None, a, b, join: None };
            self.writer.emit(op);
            let (then, next) = (self.writer.block(), self.writer.block());
            let p = Predicate { register: p, negated: false };
            self.writer.end(Terminator::Branch { p, then, otherwise: next, uniform: false });
            self.writer.place(then);
            self.call_function(target, results, arguments)?;
            self.writer.end(Terminator::Jump(end));
            self.writer.place(next);
        }
        // A pointer to none of them.
        self.writer.emit(Op::Trap);
        self.writer.place(end);
        Ok(())
    }

    /// Turns a guard into a branch around what follows, up to `end`.
    pub(super) fn enter_guard(&mut self, end: crate::ir::BlockId) {
        if let Some(p) = self.writer.guard.take() {
            let then = self.writer.block();
            self.writer.end(Terminator::Branch { p, then, otherwise: end, uniform: false });
            self.writer.place(then);
        }
    }

    fn call_function(&mut self, position: usize, results: &[Passed], arguments: &[Passed]) -> Lowered<()> {
        let Some(function) = self.index.at(position) else { return self.invalid("the function is not declared") };
        let name = function.name.text;
        if function.entry {
            return self.invalid(format!("`{name}` is a kernel: expected a function"));
        }
        // Units are linked by names: who calls may have declared another result than there is, or none.
        let caller = self.frames.last().and_then(|frame| self.index.at(frame.function));
        let linked = caller.is_some_and(|caller| caller.unit != function.unit);
        if function.params.len() != arguments.len() || function.returns.len() != results.len() && !linked {
            let (takes, gives) = (function.params.len(), function.returns.len());
            let (given, taken) = (arguments.len(), results.len());
            return self.invalid(format!(
                "`{name}` is called with {given} arguments and {taken} results: expected {takes} and {gives}"
            ));
        }
        if function.body.is_none() {
            return self.call_runtime(function, results, arguments);
        }
        for result in results.iter().skip(function.returns.len()) {
            match *result {
                Passed::Slot(slot @ Slot::Register(_, ty)) => self.store_slot(slot, 0, ty, vec![Operand::Imm(0)]),
                Passed::Register(register, ty) => self.writer.mov(ty, register, Operand::Imm(0)),
                Passed::Slot(Slot::Memory(..)) | Passed::Constant(_) => {}
            }
        }
        if let Some(cycle) = self.index.cycle(position) {
            return self.call_routine(position, cycle, results, arguments);
        }
        if self.frames.len() >= DEEPEST {
            return self.unsupported(format!("calls nested more than {DEEPEST} deep are not supported"));
        }
        self.with_locals(|body| body.inline(position, function, results, arguments))
    }

    fn inline(
        &mut self,
        position: usize,
        function: &'m Function<'a>,
        results: &[Passed],
        arguments: &[Passed],
    ) -> Lowered<()> {
        let at = self.writer.at;
        // Lanes that the guard keeps out meet the others behind the copying of results.
        let (skip, end) = (self.writer.block(), self.writer.block());
        self.enter_guard(skip);
        self.frames.push(Frame::new(position, Some(end)));
        let places = self.enter(function, arguments);
        if places.is_ok() {
            self.statements(function.body.as_deref().unwrap_or_default());
        }
        self.frames.pop();
        self.writer.at = at;
        self.writer.guard = None;
        self.writer.place(end);
        for (place, result) in places?.into_iter().zip(results) {
            match *result {
                Passed::Slot(slot) => self.copy_slot(slot, place),
                Passed::Register(register, ty) => self.load_slot(place, 0, ty, vec![Some(register)]),
                Passed::Constant(_) => return self.invalid("a constant cannot receive a result"),
            }
        }
        self.writer.place(skip);
        Ok(())
    }

    /// Gives a function its arguments; tells where its results will be.
    fn enter(&mut self, function: &'m Function<'a>, arguments: &[Passed]) -> Lowered<Vec<Slot>> {
        for (variable, argument) in function.params.iter().zip(arguments) {
            let place = self.parameter(variable)?;
            let ty = super::layout::element(variable)?;
            match *argument {
                Passed::Slot(slot) => self.copy_slot(place, slot),
                Passed::Register(register, _) => self.store_slot(place, 0, ty, vec![Operand::Reg(register)]),
                Passed::Constant(value) => self.store_slot(place, 0, ty, vec![Operand::Imm(value)]),
            }
        }
        function.returns.iter().map(|variable| self.parameter(variable)).collect()
    }

    /// Declares a parameter of an inlined function.
    pub(super) fn parameter(&mut self, variable: &'m Variable<'a>) -> Lowered<Slot> {
        let register = variable.space == StateSpace::Reg;
        let slot = self.slot(variable, !register && self.is_addressed(variable.name.text))?;
        let meaning = match (variable.space, slot) {
            (StateSpace::Reg, Slot::Register(register, ty)) => Local::Register(register, ty),
            _ => Local::Slot(slot),
        };
        self.declare(variable.name, meaning)?;
        Ok(slot)
    }

    fn call_runtime(&mut self, function: &Function<'a>, results: &[Passed], arguments: &[Passed]) -> Lowered<()> {
        let name = function.name.text;
        let (runtime, types): (_, &[Type]) = match name {
            "vprintf" => (Runtime::Vprintf, &[Type::B64, Type::B64]),
            "__assertfail" | "__assert_fail" if arguments.len() == 5 => {
                (Runtime::AssertFail, &[Type::B64, Type::B64, Type::B32, Type::B64, Type::B64])
            }
            "malloc" => (Runtime::Malloc, &[Type::B64]),
            "free" => (Runtime::Free, &[Type::B64]),
            _ if name.starts_with("cuda") => {
                return self.unsupported(format!("`{name}` of the device runtime is not supported"));
            }
            _ => return self.invalid(format!("the extern function `{name}` is defined nowhere")),
        };
        if types.len() != arguments.len() {
            return self.invalid(format!("`{name}` takes {} arguments", types.len()));
        }
        let mut a = Vec::with_capacity(arguments.len());
        for (&argument, &ty) in arguments.iter().zip(types) {
            a.push(match argument {
                Passed::Slot(slot) => self.slot_value(slot, ty),
                Passed::Register(register, _) => Operand::Reg(register),
                Passed::Constant(value) => Operand::Imm(value),
            });
        }
        let mut later = None;
        let d = match results.first() {
            Some(Passed::Slot(Slot::Register(register, _)) | Passed::Register(register, _)) => Some(*register),
            Some(Passed::Slot(slot)) => {
                let d = self.writer.register(Width::B64);
                later = Some((*slot, d));
                Some(d)
            }
            _ => None,
        };
        self.writer.emit(Op::Runtime { function: runtime, d, a });
        if let Some((slot, d)) = later {
            self.store_slot(slot, 0, Type::B64, vec![Operand::Reg(d)]);
        }
        Ok(())
    }
}
