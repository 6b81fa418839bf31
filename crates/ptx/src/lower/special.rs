//! Special registers, and what an instruction writes.

use super::body::Body;
use super::{Lowered, types};
use crate::ast::Operand;
use crate::ir::{self, Instruction, Op, Reg, Special, Type, Width, operands};

/// A special register and the width that it is read with.
fn find(name: &str, member: Option<&str>) -> Option<(Special, Width)> {
    let axis = match member {
        Some("x") => Some(0),
        Some("y") => Some(1),
        Some("z") => Some(2),
        Some(_) => None,
        None => Some(0),
    };
    let by_axis: Option<fn(u8) -> Special> = match name {
        "%tid" => Some(Special::Tid),
        "%ntid" => Some(Special::Ntid),
        "%ctaid" => Some(Special::Ctaid),
        "%nctaid" => Some(Special::Nctaid),
        "%clusterid" => Some(Special::ClusterId),
        "%nclusterid" => Some(Special::NClusterId),
        "%cluster_ctaid" => Some(Special::ClusterCtaid),
        "%cluster_nctaid" => Some(Special::ClusterNctaid),
        _ => None,
    };
    if let Some(make) = by_axis {
        // The fourth element is always zero.
        let which = axis.map_or(Special::Zero, make);
        return matches!(member, None | Some("x" | "y" | "z" | "w")).then_some((which, Width::B32));
    }
    if member.is_some() {
        return None;
    }
    let (which, width) = match name {
        "%laneid" => (Special::LaneId, Width::B32),
        "%warpid" => (Special::WarpId, Width::B32),
        "%nwarpid" => (Special::NWarpId, Width::B32),
        "%smid" => (Special::SmId, Width::B32),
        "%nsmid" => (Special::NSmId, Width::B32),
        "%gridid" => (Special::GridId, Width::B64),
        "%lanemask_eq" => (Special::LaneMaskEq, Width::B32),
        "%lanemask_le" => (Special::LaneMaskLe, Width::B32),
        "%lanemask_lt" => (Special::LaneMaskLt, Width::B32),
        "%lanemask_ge" => (Special::LaneMaskGe, Width::B32),
        "%lanemask_gt" => (Special::LaneMaskGt, Width::B32),
        "%clock" => (Special::Clock, Width::B32),
        "%clock_hi" => (Special::ClockHi, Width::B32),
        "%clock64" => (Special::Clock64, Width::B64),
        "%globaltimer" => (Special::GlobalTimer, Width::B64),
        "%globaltimer_lo" => (Special::GlobalTimerLo, Width::B32),
        "%globaltimer_hi" => (Special::GlobalTimerHi, Width::B32),
        "%dynamic_smem_size" => (Special::DynamicSharedSize, Width::B32),
        "%total_smem_size" | "%aggr_smem_size" => (Special::TotalSharedSize, Width::B32),
        "%cluster_ctarank" => (Special::ClusterCtarank, Width::B32),
        "%cluster_nctarank" => (Special::ClusterNctarank, Width::B32),
        "%is_explicit_cluster" => (Special::Zero, Width::Pred),
        "%current_graph_exec" => (Special::Zero, Width::B64),
        "%reserved_smem_offset_begin" | "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => {
            (Special::Zero, Width::B32)
        }
        _ => {
            let numbered = |prefix: &str, most: u32| {
                name.strip_prefix(prefix)
                    .and_then(|digits| digits.parse().ok())
                    .is_some_and(|number: u32| number < most)
            };
            if numbered("%envreg", 32) || numbered("%reserved_smem_offset_", 2) || numbered("%pm", 8) {
                (Special::Zero, Width::B32)
            } else if name.starts_with("%pm") && name.ends_with("_64") {
                (Special::Zero, Width::B64)
            } else {
                return None;
            }
        }
    };
    Some((which, width))
}

impl<'a> Body<'_, 'a> {
    /// Reads a special register.
    pub(super) fn special_value(
        &mut self,
        operand: &Operand<'a>,
        name: &str,
        member: Option<&str>,
        ty: Type,
    ) -> Lowered<ir::Operand> {
        if name == "WARP_SZ" {
            return Ok(ir::Operand::Imm(32));
        }
        if matches!(name, "%envreg1" | "%envreg2") && member.is_none() && types::width(ty) == Width::B32 {
            return Ok(self.grid_workspace_half(name == "%envreg1"));
        }
        let Some((which, width)) = find(name, member) else {
            let member = member.map_or(String::new(), |member| format!(".{member}"));
            return self.fail(operand, format!("`{name}{member}` is not declared"));
        };
        let wanted = types::width(ty);
        let d = self.writer.register(width);
        if which == Special::Zero {
            return Ok(ir::Operand::Imm(0));
        }
        self.writer.emit(Op::Special { d, which });
        if wanted == width {
            return Ok(ir::Operand::Reg(d));
        }
        // Old compilers read `%tid` with 16 bits, and `%gridid` with 32.
        if types::bits(wanted) > types::bits(width) || wanted == Width::Pred {
            let (have, want) = (types::bits(width), types::name(ty));
            return self.fail(operand, format!("`{name}` has {have} bits: expected `.{want}`"));
        }
        let narrow = self.writer.register(wanted);
        let to = types::unsigned(types::bits(wanted) / 8);
        let from = types::unsigned(types::bits(width) / 8);
        self.writer.emit(Op::Cvt { to, from, modifiers: Default::default(), d: narrow, a: ir::Operand::Reg(d) });
        Ok(ir::Operand::Reg(narrow))
    }
}

impl Body<'_, '_> {
    /// cooperative_groups finds the word where a grid synchronises by these two registers (high and low half).
    fn grid_workspace_half(&mut self, high: bool) -> ir::Operand {
        let variable = self.index.use_grid_workspace();
        let address = self.writer.register(Width::B64);
        self.writer.mov(Type::B64, address, ir::Operand::Global(variable, 0));
        let halves = [self.writer.register(Width::B32), self.writer.register(Width::B32)];
        let a = ir::Operand::Reg(address);
        self.writer.emit(Op::Unpack { d: halves.map(Some).to_vec(), part: Width::B32, a });
        let [low, upper] = halves;
        ir::Operand::Reg(if high { upper } else { low })
    }
}

/// Whether any of the instructions writes a register.
pub(super) fn writes(instructions: &[Instruction], register: Reg) -> bool {
    instructions.iter().any(|instruction| {
        let mut found = false;
        operands::results(&instruction.op, &mut |written| found |= written == register);
        found
    })
}
