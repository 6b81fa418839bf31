//! One thread at a time, one instruction after another: what kernels mean.

use super::super::arguments::{Argument, arguments};
use super::super::{scalar, site};
use crate::ir::*;
use std::collections::HashMap;

/// Runs a kernel without barriers or warp operations for one thread. Memory is `base..base + memory.len()`.
pub(super) fn run(kernel: &Kernel, specials: &HashMap<Special, u64>, params: &[u8], base: u64, memory: &mut [u8]) {
    let mut registers = vec![0u64; kernel.registers.len()];
    let cut = |r: Reg, v: u64| match kernel.registers[r.0 as usize] {
        Width::Pred => v & 1,
        Width::B16 => v & 0xffff,
        Width::B32 => v & 0xffff_ffff,
        _ => v,
    };
    let mut block = 0usize;
    let mut fuel = 1_000_000;
    loop {
        fuel -= 1;
        assert!(fuel > 0, "the oracle runs forever");
        for Instruction { guard, op, .. } in &kernel.blocks[block].instructions {
            if let Some(p) = guard
                && (registers[p.register.0 as usize] != 0) == p.negated
            {
                continue;
            }
            let value = |o: &Operand, registers: &[u64]| match o {
                Operand::Reg(r) => registers[r.0 as usize],
                Operand::Imm(v) => *v,
                Operand::Shared(v) | Operand::Local(v) | Operand::Param(v) => *v as u64,
                Operand::Global(..) => unreachable!(),
            };
            match op {
                Op::Special { d, which } => registers[d.0 as usize] = specials[which],
                Op::Load { ty, d, address, .. } => {
                    let at = value(&address.base, &registers).wrapping_add_signed(address.offset);
                    let size = site::bytes_of(*ty);
                    for (i, d) in d.iter().enumerate() {
                        let Some(d) = d else { continue };
                        let mut raw = [0; 8];
                        let from = match address.space {
                            Space::Param => &params[at as usize + i * size..][..size],
                            _ => &memory[(at - base) as usize + i * size..][..size],
                        };
                        raw[..size].copy_from_slice(from);
                        registers[d.0 as usize] = cut(*d, scalar::fill(*ty, u64::from_le_bytes(raw)));
                    }
                }
                Op::Store { ty, address, a, .. } => {
                    let at = value(&address.base, &registers).wrapping_add_signed(address.offset);
                    let size = site::bytes_of(*ty);
                    for (i, a) in a.iter().enumerate() {
                        let v = value(a, &registers).to_le_bytes();
                        memory[(at - base) as usize + i * size..][..size].copy_from_slice(&v[..size]);
                    }
                }
                op => {
                    let operands: Vec<u64> = arguments(op)
                        .iter()
                        .map(|a| match a {
                            Argument::Value(o, width) => {
                                let v = value(o, &registers);
                                match width {
                                    Width::Pred => v & 1,
                                    Width::B16 => v & 0xffff,
                                    Width::B32 => v & 0xffff_ffff,
                                    _ => v,
                                }
                            }
                            Argument::Predicate(p) => registers[p.register.0 as usize] ^ u64::from(p.negated),
                        })
                        .collect();
                    let out = scalar::evaluate(op, &operands);
                    let mut i = 0;
                    operands::results(op, &mut |d| {
                        registers[d.0 as usize] = cut(d, out[i]);
                        i += 1;
                    });
                }
            }
        }
        block = match &kernel.blocks[block].end {
            Terminator::Jump(t) => t.0 as usize,
            Terminator::Branch { p, then, otherwise, .. } => {
                if (registers[p.register.0 as usize] != 0) != p.negated {
                    then.0 as usize
                } else {
                    otherwise.0 as usize
                }
            }
            Terminator::Switch { index, targets } => {
                let Operand::Reg(r) = index else { unreachable!() };
                targets[(registers[r.0 as usize] as usize).min(targets.len() - 1)].0 as usize
            }
            Terminator::Exit => return,
        };
    }
}
