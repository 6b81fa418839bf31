//! Which functions may come to call themselves.

use super::index::Index;

/// A function on its way through [`Index::find_cycles`].
#[derive(Clone, Copy, Default)]
struct Visit {
    /// Order in which the walk came to it, from 1; 0 before.
    number: usize,
    /// The earliest function of the open path that it leads back to.
    low: usize,
    open: bool,
}

impl Index<'_, '_> {
    /// The cycle of calls that a function is part of, if any: functions of one cycle may call one another.
    pub(super) fn cycle(&self, position: usize) -> Option<u32> {
        self.cycles.get_or_init(|| self.find_cycles()).get(position).copied().flatten()
    }

    /// Whether calls through registers with so many results and arguments may reach a function.
    pub(super) fn takes(&self, position: usize, results: usize, arguments: usize) -> bool {
        self.at(position)
            .is_some_and(|function| function.returns.len() == results && function.params.len() == arguments)
    }

    fn calls(&self, position: usize) -> Vec<usize> {
        let Some(facts) = self.facts(position) else { return Vec::new() };
        let mut calls = facts.callees.clone();
        for &(results, arguments) in &facts.indirect {
            let pointers = self.addressed_functions().iter().copied();
            calls.extend(pointers.filter(|&function| self.takes(function, results, arguments)));
        }
        calls
    }

    /// Tarjan's strongly connected components, without recursion of our own.
    fn find_cycles(&self) -> Vec<Option<u32>> {
        let count = self.module.functions.len();
        let mut cycles = vec![None; count];
        let mut visits = vec![Visit::default(); count];
        let (mut walked, mut found) = (0, 0);
        let mut path = Vec::new();
        for root in 0..count {
            let mut stack = vec![(root, None::<std::vec::IntoIter<usize>>)];
            while let Some((function, calls)) = stack.last_mut() {
                let function = *function;
                let Some(visit) = visits.get_mut(function) else { break };
                let calls = match calls {
                    Some(calls) => calls,
                    None if visit.number != 0 => {
                        stack.pop();
                        continue;
                    }
                    None => {
                        walked += 1;
                        *visit = Visit { number: walked, low: walked, open: true };
                        path.push(function);
                        calls.insert(self.calls(function).into_iter())
                    }
                };
                if let Some(callee) = calls.next() {
                    match visits.get(callee).copied() {
                        Some(known) if known.open => {
                            if let Some(visit) = visits.get_mut(function) {
                                visit.low = visit.low.min(known.number);
                            }
                        }
                        Some(known) if known.number == 0 => stack.push((callee, None)),
                        _ => {}
                    }
                    continue;
                }
                stack.pop();
                let Some(visit) = visits.get(function).copied() else { break };
                if let Some(caller) = stack.last().and_then(|(caller, _)| visits.get_mut(*caller)) {
                    caller.low = caller.low.min(visit.low);
                }
                if visit.low != visit.number {
                    continue;
                }
                let first = path.iter().rposition(|&member| member == function).unwrap_or(0);
                let members = path.split_off(first);
                let again = members.len() > 1 || self.calls(function).contains(&function);
                for member in members {
                    if let (Some(cycle), Some(visit)) = (cycles.get_mut(member), visits.get_mut(member)) {
                        *cycle = again.then_some(found);
                        visit.open = false;
                    }
                }
                found += u32::from(again);
            }
        }
        cycles
    }
}
