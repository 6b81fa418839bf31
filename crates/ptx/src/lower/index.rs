//! What the names of a module mean, and what each function touches.

use super::layout;
use crate::ast::{Function, Initial, Linkage, Module, Opcode, Operand, OperandKind, StateSpace, Statement, Variable};
use crate::diagnostics::Diagnostic;
use crate::ir;
use crate::parser::FastMap;
use std::cell::{Cell, OnceCell};

/// What a name of module scope means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Global<'m, 'a> {
    /// A `.global` or `.const` variable: its position in [`crate::ir::Module::variables`].
    Variable(u32),
    /// A shared variable.
    Shared(&'m Variable<'a>),
    /// A function: its position in [`Module::functions`].
    Function(usize),
    /// A `.local` or `.param` variable of module scope.
    Other,
}

/// What a function touches.
#[derive(Debug, Default)]
pub(super) struct Facts<'m, 'a> {
    unit: u32,
    /// Shared variables that it declares or names.
    pub(super) shared: Vec<&'m Variable<'a>>,
    /// Functions that it names.
    pub(super) callees: Vec<usize>,
    /// Results and arguments of its calls through registers.
    pub(super) indirect: Vec<(usize, usize)>,
    /// Names of its own whose address it takes.
    pub(super) addressed: FastMap<&'a str, ()>,
    /// Functions whose address it takes.
    pub(super) pointed: Vec<usize>,
}

/// Results and arguments of a call through a register.
fn indirect(operands: &[Operand<'_>]) -> Option<(usize, usize)> {
    let count = |operand: Option<&Operand<'_>>| match operand.map(|operand| &operand.kind) {
        Some(OperandKind::Group(list)) => list.len(),
        _ => 0,
    };
    let callee = operands.iter().position(|operand| matches!(operand.kind, OperandKind::Name(_)))?;
    let OperandKind::Name(name) = operands[callee].kind else { return None };
    let results = callee.checked_sub(1).and_then(|before| operands.get(before));
    name.starts_with('%').then(|| (count(results), count(operands.get(callee + 1))))
}

/// The unit of names that all units see.
const SHARED: u32 = u32::MAX;

/// A module by name.
#[derive(Debug)]
pub(super) struct Index<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    /// Module variables in order; `.extern` declarations of defined ones are left out.
    pub(super) variables: Vec<&'m Variable<'a>>,
    /// By unit and name; names that units share belong to [`SHARED`].
    names: FastMap<(u32, &'a str), Global<'m, 'a>>,
    facts: Vec<OnceCell<Facts<'m, 'a>>>,
    addressed_functions: OnceCell<Vec<usize>>,
    pub(super) cycles: OnceCell<Vec<Option<u32>>>,
    uses_grid_workspace: Cell<bool>,
}

/// Where the shared variables of a kernel are.
pub(super) struct Shared {
    /// Their places, by their number.
    pub(super) places: FastMap<u32, i64>,
    /// Size of the static part.
    pub(super) bytes: u32,
    /// The strictest alignment of one of them, at least 16.
    pub(super) align: u64,
}

impl<'m, 'a> Index<'m, 'a> {
    pub(super) fn new(module: &'m Module<'a>, found: &mut Vec<Diagnostic>) -> Self {
        let mut index = Index {
            module,
            variables: Vec::new(),
            names: FastMap::default(),
            facts: module.functions.iter().map(|_| OnceCell::new()).collect(),
            addressed_functions: OnceCell::new(),
            cycles: OnceCell::new(),
            uses_grid_workspace: Cell::new(false),
        };
        for variable in &module.variables {
            index.variable(variable, found);
        }
        for (position, function) in module.functions.iter().enumerate() {
            index.function(position, function, found);
        }
        for (name, target, unit) in &module.aliases {
            match index.find(target.text, *unit) {
                Some(meaning) => {
                    index.names.insert((*unit, name.text), meaning);
                }
                None => found.push(Diagnostic::error(target.at, format!("`{}` is not declared", target.text))),
            }
        }
        index
    }

    /// Where a name is kept.
    fn key(name: &'a str, linkage: Linkage, unit: u32) -> (u32, &'a str) {
        (if linkage == Linkage::Hidden { unit } else { SHARED }, name)
    }

    fn variable(&mut self, variable: &'m Variable<'a>, found: &mut Vec<Diagnostic>) {
        let name = variable.name;
        let key = Self::key(name.text, variable.linkage, variable.unit);
        let meaning = match (variable.space, self.names.get(&key).copied()) {
            (StateSpace::Global | StateSpace::Const, Some(Global::Variable(position))) => {
                let Some(slot) = self.variables.get_mut(position as usize) else { return };
                if slot.linkage == Linkage::Extern {
                    *slot = variable;
                } else if variable.linkage == slot.linkage && !matches!(slot.linkage, Linkage::Weak | Linkage::Common) {
                    found.push(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text)));
                }
                return;
            }
            (StateSpace::Global | StateSpace::Const, None) => {
                self.variables.push(variable);
                Global::Variable(self.variables.len() as u32 - 1)
            }
            (StateSpace::Shared, None | Some(Global::Shared(_))) => Global::Shared(variable),
            (_, Some(_)) => {
                found.push(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text)));
                return;
            }
            (_, None) => Global::Other,
        };
        self.names.insert(key, meaning);
    }

    fn function(&mut self, position: usize, function: &'m Function<'a>, found: &mut Vec<Diagnostic>) {
        let name = function.name;
        let key = Self::key(name.text, function.linkage, function.unit);
        match self.names.get(&key) {
            None => {}
            Some(&Global::Function(earlier)) => {
                let earlier = self.module.functions.get(earlier);
                let defined = earlier.is_some_and(|it| it.body.is_some());
                let weak = function.linkage == Linkage::Weak || earlier.is_some_and(|it| it.linkage == Linkage::Weak);
                if function.body.is_none() || (defined && weak) {
                    return;
                }
                if defined {
                    found.push(Diagnostic::error(name.at, format!("`{}` is defined twice", name.text)));
                    return;
                }
            }
            Some(_) => {
                found.push(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text)));
                return;
            }
        }
        self.names.insert(key, Global::Function(position));
        // A declaration of the same unit may have said less about linkage than the definition.
        let own = (function.unit, name.text);
        if function.body.is_some() && matches!(self.names.get(&own), Some(Global::Function(_))) {
            self.names.insert(own, Global::Function(position));
        }
    }

    /// What a name of module scope means in a unit.
    pub(super) fn find(&self, name: &'a str, unit: u32) -> Option<Global<'m, 'a>> {
        self.names.get(&(unit, name)).or_else(|| self.names.get(&(SHARED, name))).copied()
    }

    /// Position of the variable where the blocks of a cooperative grid count their arrivals; it is made on demand.
    pub(super) fn use_grid_workspace(&self) -> u32 {
        self.uses_grid_workspace.set(true);
        self.variables.len() as u32
    }

    /// That variable, where a kernel uses it. Its name is none that PTX can spell for a variable.
    pub(super) fn grid_workspace(&self) -> Option<ir::Variable> {
        self.uses_grid_workspace.get().then(|| ir::Variable {
            name: "%grid_workspace".to_owned(),
            space: ir::Space::Global,
            visible: false,
            size: 64,
            align: 64,
            bytes: Vec::new(),
            relocations: Vec::new(),
            managed: false,
        })
    }

    /// The function at a position.
    pub(super) fn at(&self, position: usize) -> Option<&'m Function<'a>> {
        self.module.functions.get(position)
    }

    /// What a function touches.
    pub(super) fn facts(&self, position: usize) -> Option<&Facts<'m, 'a>> {
        let function = self.module.functions.get(position)?;
        Some(self.facts.get(position)?.get_or_init(|| self.collect(function)))
    }

    /// Functions whose address is taken anywhere: what a call through a pointer may reach.
    pub(super) fn addressed_functions(&self) -> &[usize] {
        self.addressed_functions.get_or_init(|| {
            let mut found = Vec::new();
            for variable in &self.variables {
                if let Some(initial) = &variable.initial {
                    self.functions_in(initial, variable.unit, &mut found);
                }
            }
            for position in 0..self.module.functions.len() {
                found.extend(self.facts(position).into_iter().flat_map(|facts| facts.pointed.iter().copied()));
            }
            found.sort_unstable();
            found.dedup();
            found
        })
    }

    fn functions_in(&self, initial: &Initial<'a>, unit: u32, found: &mut Vec<usize>) {
        match initial {
            Initial::List(list) => list.iter().for_each(|initial| self.functions_in(initial, unit, found)),
            Initial::Symbol { name, .. } => {
                if let Some(Global::Function(position)) = self.find(name.text, unit) {
                    found.push(position);
                }
            }
            Initial::Constant(_) => {}
        }
    }

    fn collect(&self, function: &'m Function<'a>) -> Facts<'m, 'a> {
        let mut facts = Facts { unit: function.unit, ..Facts::default() };
        for statement in function.body.as_deref().unwrap_or_default() {
            match statement {
                Statement::Variable(variable) if variable.space == StateSpace::Shared => facts.shared.push(variable),
                Statement::Instruction(instruction) => {
                    let opcode = self.module.mnemonics.get(instruction.mnemonic as usize).map(|it| it.opcode);
                    if opcode == Some(Opcode::Call) {
                        facts.indirect.extend(indirect(&instruction.operands));
                    }
                    for operand in &instruction.operands {
                        self.touch(operand, opcode == Some(Opcode::Mov), &mut facts);
                    }
                }
                Statement::Targets(_, names) => {
                    for name in names {
                        self.touch_name(name.text, false, &mut facts);
                    }
                }
                _ => {}
            }
        }
        facts
    }

    fn touch(&self, operand: &'m Operand<'a>, mov: bool, facts: &mut Facts<'m, 'a>) {
        match &operand.kind {
            OperandKind::Name(name) => self.touch_name(name, mov, facts),
            OperandKind::Offset(name, _) => self.touch_name(name, mov, facts),
            OperandKind::Address(base, _) => self.touch(base, false, facts),
            OperandKind::Vector(list) | OperandKind::Group(list) => {
                for operand in list {
                    self.touch(operand, false, facts);
                }
            }
            _ => {}
        }
    }

    fn touch_name(&self, name: &'a str, mov: bool, facts: &mut Facts<'m, 'a>) {
        if name.starts_with('%') {
            return;
        }
        match self.find(name, facts.unit) {
            Some(Global::Shared(variable)) => facts.shared.push(variable),
            Some(Global::Function(position)) => {
                let list = if mov { &mut facts.pointed } else { &mut facts.callees };
                if !list.contains(&position) {
                    list.push(position);
                }
            }
            None if mov => {
                facts.addressed.insert(name, ());
            }
            _ => {}
        }
    }

    /// Places of all shared variables that a kernel reaches.
    pub(super) fn shared_layout(&self, kernel: usize) -> super::Lowered<Shared> {
        let mut seen = vec![kernel];
        let mut next = 0;
        let mut all: Vec<&'m Variable<'a>> = Vec::new();
        while let Some(&position) = seen.get(next) {
            next += 1;
            let Some(facts) = self.facts(position) else { continue };
            all.extend(&facts.shared);
            let pointers = if !facts.indirect.is_empty() { self.addressed_functions() } else { &[] };
            for &callee in facts.callees.iter().chain(pointers) {
                if !seen.contains(&callee) {
                    seen.push(callee);
                }
            }
        }
        let dynamic = |variable: &Variable<'_>| {
            variable.linkage == Linkage::Extern || variable.extents.iter().any(Option::is_none)
        };
        let mut places = FastMap::default();
        let (mut end, mut strictest) = (0u64, 16);
        for &variable in all.iter().filter(|variable| !dynamic(variable)) {
            if places.contains_key(&variable.id) {
                continue;
            }
            let align = layout::align(variable)?;
            strictest = strictest.max(align);
            let offset = layout::align_up(end, align);
            end = offset + layout::size(variable)?;
            places.insert(variable.id, offset as i64);
        }
        let mut align = 16;
        for &variable in all.iter().filter(|variable| dynamic(variable)) {
            align = align.max(layout::align(variable)?);
        }
        // The dynamic part begins at a multiple of 16; a stricter array is served by padding the static part.
        let start = layout::align_up(end, align);
        for variable in all.iter().filter(|variable| dynamic(variable)) {
            places.insert(variable.id, start as i64);
        }
        if align > 16 {
            end = start;
        }
        Ok(Shared { places, bytes: u32::try_from(end).unwrap_or(u32::MAX), align: strictest.max(align) })
    }
}
