//! Code generation: one function per kernel and row class that runs a warp until it exits, parks or traps.

use super::context::Context;
use super::enter;
use super::flow::{End, Flow};
use super::home::Homes;
use super::kinds::{self, Kind, Kinds, RowClass, Rules};
use super::site::{Detail, Helper, Site, slot};
use super::table::Table;
use super::{ExecError, Window};
use crate::Position;
use crate::ir::operands;
use crate::ir::{Instruction, Kernel, Op, Operand, Reg, Width};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{
    self as clif, AbiParam, Block, InstBuilder, MemFlagsData, Signature, SourceLoc, StackSlot, StackSlotData,
    StackSlotKind, Value, types,
};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::Configurable;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use std::collections::HashMap;

/// A value of one operand, in whichever form it has.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// One scalar (predicates: i8).
    Uniform(Value),
    /// One scalar per row.
    Rows { base: Vec<Value>, stride: i64 },
    /// See [`Kind::Extended`].
    Extended { low: Vec<Value>, high: Vec<Value>, signed: bool, stride: i32, scale: i64 },
    /// All lanes in 128-bit vectors; predicates as vectors of 32-bit masks.
    Vectors(Vec<Value>),
    /// A varying predicate as one bit per lane.
    Mask(Value),
}

/// What generated code was made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) class: RowClass,
    /// All warps are full.
    pub(super) full: bool,
    pub(super) variables: &'a [u64],
    pub(super) window: Window,
    pub(super) local_stride: i64,
}

/// Helper sites; generated code holds their addresses, so each stays where it is.
pub(super) type Sites = Vec<Box<Site>>;

/// Machine code before it is placed.
pub(super) struct Compiled {
    pub(super) code: Vec<u8>,
    pub(super) positions: Vec<(u32, Position)>,
    pub(super) sites: Sites,
    pub(super) frame_bytes: usize,
    pub(super) has_barriers: bool,
}

pub(super) struct Emitter<'a, 'f> {
    pub(super) b: FunctionBuilder<'f>,
    pub(super) target: Target<'a>,
    pub(super) flow: &'a Flow<'a>,
    pub(super) kinds: &'a Kinds,
    pub(super) context: Value,
    /// Variables of every register, as its kind asks for; made on first use.
    pub(super) registers: Vec<Option<Vec<Variable>>>,
    /// Whether a varying predicate is held as vectors (else as a mask).
    pub(super) spread: Vec<bool>,
    /// Lanes that run.
    pub(super) active: Variable,
    /// Lanes that wait to run a block, or are parked in front of it.
    pub(super) waiting: Vec<Variable>,
    pub(super) parked: HashMap<usize, Variable>,
    pub(super) blocks: Vec<Block>,
    /// Second copies of blocks, in which all lanes run.
    pub(super) whole_blocks: Vec<Option<Block>>,
    /// Whether such a copy is being emitted.
    pub(super) whole: bool,
    /// Resume points: their blocks, in order of number from 1.
    pub(super) resumes: Vec<Block>,
    pub(super) entry_switch: Option<Block>,
    pub(super) sites: Sites,
    pub(super) data: StackSlot,
    pub(super) data_slots: usize,
    pub(super) homes: Homes,
    pub(super) home_slot: Option<StackSlot>,
    pub(super) table: Option<Table>,
    pub(super) frame_bytes: usize,
    /// Lanes that the instruction being emitted may write, when they are not all of interest.
    pub(super) blend: Option<Value>,
    /// The block being emitted.
    pub(super) place: usize,
    pub(super) at: Position,
    pub(super) vector_masks: HashMap<(Value, Block, Width), Vec<Value>>,
    /// Set while the end of a block is emitted at which lanes may stand back.
    pub(super) deferred: Option<Variable>,
    /// Registers with results that nothing has asked to be ready yet.
    pub(super) fresh: Vec<Reg>,
    /// Of the block being emitted, the last instruction that reads a register; beyond them all for what is read later.
    pub(super) last_reads: HashMap<Reg, usize>,
    /// Number of the instruction being emitted in its block.
    pub(super) instruction: usize,
    pub(super) failure: Option<ExecError>,
}

/// Flags of accesses to memory that is ours and always there.
pub(super) fn trusted() -> MemFlagsData {
    MemFlagsData::trusted()
}

impl<'a> Emitter<'a, '_> {
    pub(super) fn rows(&self) -> usize {
        self.target.class.rows()
    }

    pub(super) fn row_lanes(&self) -> usize {
        self.target.class.lanes()
    }

    pub(super) fn width(&self, r: Reg) -> Width {
        self.target.kernel.registers[r.0 as usize]
    }

    pub(super) fn kind(&self, r: Reg) -> Kind {
        self.kinds.kind[r.0 as usize]
    }

    /// Calls `f` with the analysis' rules.
    pub(super) fn with_rules<R>(&self, f: impl FnOnce(&Rules<'_>) -> R) -> R {
        let registers = &self.target.kernel.registers;
        f(&Rules {
            class: self.target.class,
            local_stride: self.target.local_stride,
            kind_of: &|r| self.kinds.kind[r.0 as usize],
            width_of: &|r| registers[r.0 as usize],
        })
    }

    pub(super) fn iconst(&mut self, ty: clif::Type, value: i64) -> Value {
        let value = match ty.bits() {
            8 => value as u8 as i64,
            16 => value as u16 as i64,
            32 => value as u32 as i64,
            _ => value,
        };
        self.b.ins().iconst(ty, value)
    }

    pub(super) fn unsupported(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(ExecError::Unsupported { what: what.into(), at: self.at });
        }
    }

    /// Loads a field of the context that does not change while a warp runs.
    pub(super) fn field(&mut self, ty: clif::Type, offset: usize) -> Value {
        self.b.ins().load(ty, trusted().with_readonly().with_can_move(), self.context, offset as i32)
    }

    /// Calls a helper; operands must be in the data slot.
    pub(super) fn call(&mut self, helper: Helper, detail: Detail) {
        let site = Box::new(Site { helper, at: self.at, detail });
        let address = std::ptr::from_ref::<Site>(&site) as i64;
        self.sites.push(site);
        let mut signature = Signature::new(CallConv::PreserveAll);
        signature.params = vec![AbiParam::new(types::I64); 3];
        let signature = self.b.import_signature(signature);
        let callee = self.b.ins().iconst(types::I64, enter::call_helper as *const () as i64);
        let site = self.b.ins().iconst(types::I64, address);
        let data = self.b.ins().stack_addr(types::I64, self.data, 0);
        self.b.ins().call_indirect(signature, callee, &[self.context, site, data]);
    }

    fn data_offset(&mut self, offset: usize) -> Offset32 {
        self.data_slots = self.data_slots.max(offset / 256 + 2);
        Offset32::new(offset as i32)
    }

    /// Makes the data slot reach at least so far.
    pub(super) fn reserve_data(&mut self, end: usize) {
        self.data_slots = self.data_slots.max(end / 256 + 1);
    }

    /// Stores into the data slot.
    pub(super) fn put(&mut self, value: Value, offset: usize) {
        let offset = self.data_offset(offset);
        let base = self.b.ins().stack_addr(types::I64, self.data, 0);
        self.b.ins().store(trusted(), value, base, offset);
    }

    /// Loads from the data slot.
    pub(super) fn take(&mut self, ty: clif::Type, offset: usize) -> Value {
        let offset = self.data_offset(offset);
        let base = self.b.ins().stack_addr(types::I64, self.data, 0);
        self.b.ins().load(ty, trusted(), base, offset)
    }

    pub(super) fn put_mask(&mut self, mask: Value) {
        self.put(mask, 0);
    }

    /// Stores vectors into a slot.
    pub(super) fn put_vectors(&mut self, vectors: &[Value], i: usize) {
        for (g, v) in vectors.iter().enumerate() {
            self.put(*v, slot(i) + 16 * g);
        }
    }

    /// Begins a new block at which only the given jump arrives.
    pub(super) fn start(&mut self, block: Block) {
        self.b.switch_to_block(block);
    }
}

/// Scalar type of a width (predicates: i8).
pub(super) fn scalar_type(width: Width) -> clif::Type {
    match width {
        Width::Pred => types::I8,
        Width::B16 => types::I16,
        Width::B32 => types::I32,
        Width::B64 => types::I64,
        Width::B128 => types::I128,
    }
}

/// Vector type of a width (predicates: masks of 32 bits).
pub(super) fn vector_type(width: Width) -> clif::Type {
    match width {
        Width::Pred | Width::B32 => types::I32X4,
        Width::B16 => types::I16X8,
        Width::B64 => types::I64X2,
        Width::B128 => types::I128,
    }
}

/// Number of vectors that hold a width's 32 lanes.
pub(super) fn vector_count(width: Width) -> usize {
    match width {
        Width::Pred | Width::B32 => 8,
        Width::B16 => 4,
        Width::B64 => 16,
        Width::B128 => 32,
    }
}

/// The code generator for this machine.
///
/// `calls`: in kernels with functions that call themselves, what is alive everywhere (constants that are moved out of
/// loops, too) costs the better register allocator seconds, and gains nothing where registers live in memory anyway.
pub(super) fn machine(calls: bool) -> Result<OwnedTargetIsa, ExecError> {
    let failed = |reason: String| ExecError::Internal { kernel: String::new(), reason };
    let mut flags = cranelift_codegen::settings::builder();
    let verify = if cfg!(test) && std::env::var_os("TENSOR_FUSION_NO_VERIFY").is_none() { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", if calls { "none" } else { "speed" }),
        ("regalloc_algorithm", if calls { "single_pass" } else { "backtracking" }),
        ("enable_verifier", verify),
        ("is_pic", "false"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        ("preserve_frame_pointers", "false"),
    ] {
        flags.set(name, value).map_err(|e| failed(e.to_string()))?;
    }
    let builder = cranelift_native::builder().map_err(|e| failed(e.to_string()))?;
    builder.finish(cranelift_codegen::settings::Flags::new(flags)).map_err(|e| failed(e.to_string()))
}

/// Which varying predicates are selected by, and so are better held as vectors.
fn spread_predicates(flow: &Flow<'_>, registers: usize) -> Vec<bool> {
    let mut spread = vec![false; registers];
    for instruction in flow.blocks.iter().flat_map(|b| &b.body) {
        if let Op::SelP { p, .. } = &instruction.op {
            spread[p.register.0 as usize] = true;
        }
    }
    spread
}

/// Compiles a kernel.
pub(super) fn compile(target: Target<'_>) -> Result<Compiled, ExecError> {
    let kernel = target.kernel;
    let internal = |reason: String| ExecError::Internal { kernel: kernel.name.clone(), reason };
    let flow = Flow::new(kernel);
    let kinds = kinds::analyse(kernel, &flow, target.class, target.local_stride);
    let isa = machine(kernel.stack_frames > 0)?;
    let mut context = cranelift_codegen::Context::new();
    context.func.signature = Signature::new(CallConv::SystemV);
    context.func.signature.params.push(AbiParam::new(types::I64));
    context.func.signature.returns.push(AbiParam::new(types::I32));
    let mut builder_context = FunctionBuilderContext::new();
    let mut positions = vec![Position::default()];
    let (sites, frame_bytes, resumes);
    {
        let mut b = FunctionBuilder::new(&mut context.func, &mut builder_context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let parameter = b.block_params(entry)[0];
        let active = b.declare_var(types::I32);
        let waiting = flow.blocks.iter().map(|_| b.declare_var(types::I32)).collect();
        let blocks = flow.blocks.iter().map(|_| b.create_block()).collect();
        let whole_blocks = flow.hot.iter().map(|hot| hot.then(|| b.create_block())).collect();
        let homes = Homes::new(target, &flow, &kinds);
        let home_slot = (homes.bytes > 0)
            .then(|| b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, homes.bytes, 4)));
        let table = (kernel.stack_frames > 0).then(|| Table::new(&mut b, flow.blocks.len()));
        let data = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 16, 4));
        let mut emitter = Emitter {
            b,
            target,
            flow: &flow,
            kinds: &kinds,
            context: parameter,
            registers: vec![None; kernel.registers.len()],
            spread: spread_predicates(&flow, kernel.registers.len()),
            active,
            waiting,
            parked: HashMap::new(),
            blocks,
            whole_blocks,
            whole: false,
            resumes: Vec::new(),
            entry_switch: None,
            sites: Vec::new(),
            data,
            data_slots: 1,
            homes,
            home_slot,
            table,
            frame_bytes: 0,
            blend: None,
            place: 0,
            at: Position::default(),
            vector_masks: HashMap::new(),
            deferred: None,
            fresh: Vec::new(),
            last_reads: HashMap::new(),
            instruction: 0,
            failure: None,
        };
        emitter.function(&mut positions);
        if let Some(failure) = emitter.failure {
            return Err(failure);
        }
        let bytes = (16 + 256 * emitter.data_slots) as u32;
        emitter.b.func.sized_stack_slots[data].size = bytes;
        sites = emitter.sites;
        frame_bytes = emitter.frame_bytes;
        resumes = emitter.resumes.len();
        emitter.b.seal_all_blocks();
        emitter.b.finalize(isa.frontend_config());
    }
    if std::env::var_os("TENSOR_FUSION_DUMP_CLIF").is_some() && cfg!(test) {
        eprintln!("{}", context.func.display());
    }
    let compiled = context.compile(&*isa, &mut Default::default()).map_err(|e| internal(format!("{:?}", e.inner)))?;
    let mut code = compiled.code_buffer().to_vec();
    relocate(&mut code, compiled).map_err(internal)?;
    if cfg!(test)
        && let Some(folder) = std::env::var_os("TENSOR_FUSION_DUMP_CODE")
    {
        std::fs::write(std::path::Path::new(&folder).join(&kernel.name), &code).map_err(|e| internal(e.to_string()))?;
    }
    let positions = compiled
        .buffer
        .get_srclocs_sorted()
        .iter()
        .map(|l| (l.start, positions.get(l.loc.bits() as usize).copied().unwrap_or_default()))
        .collect();
    Ok(Compiled { code, positions, sites, frame_bytes, has_barriers: resumes > 0 })
}

extern "C" fn fma32(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

extern "C" fn fma64(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// Fills in the addresses of functions that stand in for instructions this CPU lacks.
fn relocate(code: &mut [u8], compiled: &cranelift_codegen::CompiledCode) -> Result<(), String> {
    use cranelift_codegen::binemit::Reloc;
    use cranelift_codegen::{FinalizedRelocTarget, ir::ExternalName, ir::LibCall};
    for relocation in compiled.buffer.relocs() {
        let address = match &relocation.target {
            FinalizedRelocTarget::ExternalName(ExternalName::LibCall(LibCall::FmaF32)) => fma32 as *const () as u64,
            FinalizedRelocTarget::ExternalName(ExternalName::LibCall(LibCall::FmaF64)) => fma64 as *const () as u64,
            other => return Err(format!("unexpected relocation to {other:?}")),
        };
        if relocation.kind != Reloc::Abs8 {
            return Err(format!("unexpected relocation {:?}", relocation.kind));
        }
        let place = relocation.offset as usize;
        let value = address.wrapping_add_signed(relocation.addend);
        code.get_mut(place..place + 8).ok_or("relocation outside the code")?.copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

impl Emitter<'_, '_> {
    /// Notes where the code that follows comes from.
    fn mark(&mut self, at: Position, positions: &mut Vec<Position>) {
        self.at = at;
        if positions.last() != Some(&at) {
            positions.push(at);
        }
        self.b.set_srcloc(SourceLoc::new(positions.len() as u32 - 1));
    }

    fn function(&mut self, positions: &mut Vec<Position>) {
        self.clear_waiting();
        let mask = self.b.ins().load(types::I32, trusted(), self.context, std::mem::offset_of!(Context, mask) as i32);
        self.b.def_var(self.active, mask);
        self.clear_homes();
        let switch = self.b.create_block();
        self.entry_switch = Some(switch);
        let resume =
            self.b.ins().load(types::I32, trusted(), self.context, std::mem::offset_of!(Context, resume) as i32);
        self.b.ins().brif(resume, switch, &[], self.blocks[0], &[]);
        for i in 0..self.flow.blocks.len() {
            self.place = i;
            let block = self.blocks[i];
            self.start(block);
            if let Some(whole) = self.whole_blocks[i] {
                if self.always_full() {
                    self.b.ins().jump(whole, &[]);
                } else {
                    let active = self.b.use_var(self.active);
                    let all = self.b.ins().icmp_imm_s(IntCC::Equal, active, -1);
                    let part = self.b.create_block();
                    self.b.ins().brif(all, whole, &[], part, &[]);
                    self.start(part);
                    self.block(i, positions);
                }
                self.whole = true;
                self.start(whole);
                self.block(i, positions);
                self.whole = false;
            } else {
                self.block(i, positions);
            }
        }
        self.emit_dispatcher();
        // Where a warp goes on that has been waiting.
        self.start(switch);
        let lost = self.b.create_block();
        let calls: Vec<_> = self.resumes.iter().map(|block| self.b.func.dfg.block_call(*block, &[])).collect();
        let default = self.b.func.dfg.block_call(lost, &[]);
        let index = self.b.ins().iadd_imm_s(resume, -1);
        let table = self.b.create_jump_table(clif::JumpTableData::new(default, &calls));
        self.b.ins().br_table(index, table);
        self.start(lost);
        self.b.ins().trap(clif::TrapCode::unwrap_user(1));
    }

    /// Emits what a block does and how it ends.
    fn block(&mut self, i: usize, positions: &mut Vec<Position>) {
        let flow = self.flow;
        let block = &flow.blocks[i];
        self.fresh.clear();
        self.last_reads.clear();
        for (number, instruction) in block.body.iter().enumerate() {
            operands::reads(instruction, &mut |r| {
                self.last_reads.insert(r, number);
            });
        }
        for r in block.end.targets().into_iter().flat_map(|t| flow.live_in[t].iter()) {
            self.last_reads.insert(Reg(r as u32), usize::MAX);
        }
        for (number, instruction) in block.body.iter().enumerate() {
            self.mark(instruction.at, positions);
            self.instruction = number;
            self.instruction(instruction);
        }
        if let End::Barrier { at, .. } = &flow.blocks[i].end {
            self.mark(at.at, positions);
        }
        self.end(i);
    }

    /// Emits an instruction under its guard.
    fn instruction(&mut self, instruction: &Instruction) {
        let Instruction { guard, op, .. } = instruction;
        self.blend = None;
        let mut results = Vec::new();
        operands::results(op, &mut |r| results.push(r));
        let keep = !self.whole && results.iter().any(|r| self.kinds.kept[self.place].contains(r.0 as usize));
        let active = self.b.use_var(self.active);
        let Some(p) = guard else {
            if keep {
                self.blend = Some(active);
            }
            self.operation(op, active);
            self.note_results(op, &results);
            return;
        };
        match self.predicate(*p) {
            Val::Uniform(flag) => {
                let (body, after) = (self.b.create_block(), self.b.create_block());
                self.b.ins().brif(flag, body, &[], after, &[]);
                self.start(body);
                if keep {
                    self.blend = Some(active);
                }
                self.operation(op, active);
                self.b.ins().jump(after, &[]);
                self.start(after);
            }
            other => {
                let bits = self.mask_bits(&other);
                let mask = self.b.ins().band(active, bits);
                self.blend = Some(mask);
                if is_cheap(op) {
                    self.operation(op, mask);
                } else {
                    let (body, after) = (self.b.create_block(), self.b.create_block());
                    self.b.ins().brif(mask, body, &[], after, &[]);
                    self.start(body);
                    self.operation(op, mask);
                    self.b.ins().jump(after, &[]);
                    self.start(after);
                }
            }
        }
        self.blend = None;
    }

    /// Whether the mask is known to be full while a block runs.
    pub(super) fn always_full(&self) -> bool {
        self.blend.is_none() && (self.whole || self.stays_full())
    }

    fn stays_full(&self) -> bool {
        self.target.full
            && self.kinds.pending[self.place].is_empty()
            && !self
                .flow
                .blocks
                .iter()
                .enumerate()
                .any(|(i, block)| matches!(block.end, End::Exit) && !self.kinds.pending[i].is_empty())
    }

    /// The operands of an operation, in the order in which helpers get them.
    pub(super) fn operand_width(&self, operand: &Operand, otherwise: Width) -> Width {
        match operand {
            Operand::Reg(r) => self.width(*r),
            Operand::Global(..) => Width::B64,
            _ => otherwise,
        }
    }
}

/// Operations that have no effect but their results and cannot fail.
fn is_cheap(op: &Op) -> bool {
    !matches!(
        op,
        Op::Load { .. }
            | Op::Store { .. }
            | Op::Atomic { .. }
            | Op::CopyAsync { .. }
            | Op::Barrier { .. }
            | Op::Runtime { .. }
            | Op::LdMatrix { .. }
            | Op::StMatrix { .. }
            | Op::Mma { .. }
            | Op::MovMatrix { .. }
            | Op::Shuffle { .. }
            | Op::Vote { .. }
            | Op::Match { .. }
            | Op::Redux { .. }
            | Op::Elect { .. }
            | Op::Trap
            | Op::StackOverflow
    )
}
