//! What the names of a module mean, and what each function touches.

use super::layout;
use crate::ast::{Function, Initial, Module, Opcode, Operand, OperandKind, StateSpace, Statement, Variable};
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
    /// Shared variables that it declares or names.
    pub(super) shared: Vec<&'m Variable<'a>>,
    /// Functions that it names.
    pub(super) callees: Vec<usize>,
    /// Whether it calls through a register.
    pub(super) indirect: bool,
    /// Names of its own whose address it takes.
    pub(super) addressed: FastMap<&'a str, ()>,
    /// Functions whose address it takes.
    pub(super) pointed: Vec<usize>,
}

/// A module by name.
#[derive(Debug)]
pub(super) struct Index<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    /// Module variables in order; `.extern` declarations of defined ones are left out.
    pub(super) variables: Vec<&'m Variable<'a>>,
    names: FastMap<&'a str, Global<'m, 'a>>,
    facts: Vec<OnceCell<Facts<'m, 'a>>>,
    addressed_functions: OnceCell<Vec<usize>>,
    uses_grid_workspace: Cell<bool>,
}

impl<'m, 'a> Index<'m, 'a> {
    pub(super) fn new(module: &'m Module<'a>, found: &mut Vec<Diagnostic>) -> Self {
        let mut index = Index {
            module,
            variables: Vec::new(),
            names: FastMap::default(),
            facts: module.functions.iter().map(|_| OnceCell::new()).collect(),
            addressed_functions: OnceCell::new(),
            uses_grid_workspace: Cell::new(false),
        };
        for variable in &module.variables {
            index.variable(variable, found);
        }
        for (position, function) in module.functions.iter().enumerate() {
            index.function(position, function, found);
        }
        for (name, target) in &module.aliases {
            match index.names.get(target.text) {
                Some(&meaning) => {
                    index.names.insert(name.text, meaning);
                }
                None => found.push(Diagnostic::error(target.at, format!("`{}` is not declared", target.text))),
            }
        }
        index
    }

    fn variable(&mut self, variable: &'m Variable<'a>, found: &mut Vec<Diagnostic>) {
        let name = variable.name;
        let known = self.names.get(name.text).copied();
        let external = variable.linkage == crate::ast::Linkage::Extern;
        let meaning = match (variable.space, known) {
            (StateSpace::Global | StateSpace::Const, Some(Global::Variable(position))) => {
                if let Some(slot) = self.variables.get_mut(position as usize) {
                    if slot.linkage == crate::ast::Linkage::Extern {
                        *slot = variable;
                    } else if !external && slot.linkage == variable.linkage && slot.linkage != crate::ast::Linkage::Weak
                    {
                        found.push(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text)));
                    }
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
        self.names.insert(name.text, meaning);
    }

    fn function(&mut self, position: usize, function: &'m Function<'a>, found: &mut Vec<Diagnostic>) {
        let name = function.name;
        match self.names.get(name.text) {
            None => {
                self.names.insert(name.text, Global::Function(position));
            }
            Some(&Global::Function(earlier)) => {
                let defined = self.module.functions.get(earlier).is_some_and(|it| it.body.is_some());
                if defined && function.body.is_some() {
                    found.push(Diagnostic::error(name.at, format!("`{}` is defined twice", name.text)));
                } else if function.body.is_some() {
                    self.names.insert(name.text, Global::Function(position));
                }
            }
            Some(_) => found.push(Diagnostic::error(name.at, format!("`{}` is declared twice", name.text))),
        }
    }

    /// What a name of module scope means.
    pub(super) fn find(&self, name: &str) -> Option<Global<'m, 'a>> {
        self.names.get(name).copied()
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
            for initial in self.variables.iter().filter_map(|variable| variable.initial.as_ref()) {
                self.functions_in(initial, &mut found);
            }
            for position in 0..self.module.functions.len() {
                found.extend(self.facts(position).into_iter().flat_map(|facts| facts.pointed.iter().copied()));
            }
            found.sort_unstable();
            found.dedup();
            found
        })
    }

    fn functions_in(&self, initial: &Initial<'a>, found: &mut Vec<usize>) {
        match initial {
            Initial::List(list) => list.iter().for_each(|initial| self.functions_in(initial, found)),
            Initial::Symbol { name, .. } => {
                if let Some(Global::Function(position)) = self.find(name.text) {
                    found.push(position);
                }
            }
            Initial::Constant(_) => {}
        }
    }

    fn collect(&self, function: &'m Function<'a>) -> Facts<'m, 'a> {
        let mut facts = Facts::default();
        for statement in function.body.as_deref().unwrap_or_default() {
            match statement {
                Statement::Variable(variable) if variable.space == StateSpace::Shared => facts.shared.push(variable),
                Statement::Instruction(instruction) => {
                    let opcode = self.module.mnemonics.get(instruction.mnemonic as usize).map(|it| it.opcode);
                    if opcode == Some(Opcode::Call) {
                        let callee = instruction.operands.iter().find_map(|operand| match operand.kind {
                            OperandKind::Name(name) => Some(name),
                            _ => None,
                        });
                        facts.indirect |= callee.is_some_and(|name| name.starts_with('%'));
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
        match self.find(name) {
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

    /// Places of all shared variables that a kernel reaches, by their number, and the size of the static part.
    pub(super) fn shared_layout(&self, kernel: usize) -> super::Lowered<(FastMap<u32, i64>, u32)> {
        let mut seen = vec![kernel];
        let mut next = 0;
        let mut all: Vec<&'m Variable<'a>> = Vec::new();
        while let Some(&position) = seen.get(next) {
            next += 1;
            let Some(facts) = self.facts(position) else { continue };
            all.extend(&facts.shared);
            let pointers = if facts.indirect { self.addressed_functions() } else { &[] };
            for &callee in facts.callees.iter().chain(pointers) {
                if !seen.contains(&callee) {
                    seen.push(callee);
                }
            }
        }
        let dynamic = |variable: &Variable<'_>| {
            variable.linkage == crate::ast::Linkage::Extern || variable.extents.iter().any(Option::is_none)
        };
        let mut places = FastMap::default();
        let mut end = 0u64;
        for &variable in all.iter().filter(|variable| !dynamic(variable)) {
            if places.contains_key(&variable.id) {
                continue;
            }
            let offset = layout::align_up(end, layout::align(variable)?);
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
        Ok((places, u32::try_from(end).unwrap_or(u32::MAX)))
    }
}
