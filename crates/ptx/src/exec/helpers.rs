//! Functions that generated code calls: memory accesses lane by lane, barriers, clocks, and operations in plain Rust.
//!
//! They may fault or leave (see [`super::enter`]), so they keep nothing that needs dropping while they touch memory.

use super::TrapKind;
use super::context::{Arrival, Context, Fault, Reduction};
use super::enter::{fail, outside};
use super::memory::value_slot;
use super::scalar;
use super::site::{Access, Detail, Form, Helper, Site, bytes, bytes_of, slot};
use crate::ir::{AtomicOp, Op, Space, Type, Width};
use std::time::{SystemTime, UNIX_EPOCH};

mod atomics;
mod fast;
pub(super) mod matrix;
mod runtime;
pub(super) mod warp;

/// Back edges between two polls.
pub(super) const FUEL: i32 = 20_000;

/// The helper for an operation that code generation does not emit in line.
pub(super) fn for_operation(op: &Op) -> Helper {
    match op {
        Op::Shuffle { .. } => warp::shuffle,
        Op::Vote { .. } => warp::vote,
        Op::Match { .. } => warp::matching,
        Op::Redux { .. } => warp::redux,
        Op::Elect { .. } => warp::elect,
        Op::Runtime { .. } => runtime::call,
        Op::CopyAsync { .. } => copy_async,
        Op::Mma { .. } => matrix::product,
        Op::LdMatrix { .. } | Op::StMatrix { .. } | Op::MovMatrix { .. } => matrix::movement,
        Op::IsSpace { .. } => is_space,
        _ => fast::find(op).unwrap_or(lanes),
    }
}

/// Reads a value of up to eight bytes.
unsafe fn read(data: *const u8, size: usize) -> u64 {
    // SAFETY: the caller promises `size` readable bytes; volatile because other threads may write them meanwhile.
    unsafe {
        match size {
            1 => u64::from(data.read_volatile()),
            2 => u64::from(data.cast::<u16>().read_volatile()),
            4 => u64::from(data.cast::<u32>().read_volatile()),
            _ => data.cast::<u64>().read_volatile(),
        }
    }
}

/// Writes a value of up to eight bytes.
unsafe fn write(data: *mut u8, size: usize, v: u64) {
    // SAFETY: as for `read`.
    unsafe {
        match size {
            1 => data.write_volatile(v as u8),
            2 => data.cast::<u16>().write_volatile(v as u16),
            4 => data.cast::<u32>().write_volatile(v as u32),
            _ => data.cast::<u64>().write_volatile(v),
        }
    }
}

/// The elements of one lane's access, up to four of eight bytes.
#[repr(align(32))]
struct Whole([u8; 32]);

/// Copies one lane's access, up to 16 bytes at once: programs rely on a flag and the value beside it coming together, as
/// GPUs do it. Both ends are aligned to `size` or 16.
unsafe fn copy(to: *mut u8, from: *const u8, size: usize) {
    // SAFETY: the caller promises `size` aligned bytes at both ends; other threads may write or read them meanwhile.
    unsafe {
        match size {
            1 | 2 | 4 | 8 => write(to, size, read(from, size)),
            16 | 32 => {
                for at in (0..size).step_by(16) {
                    copy_16(to.add(at), from.add(at));
                }
            }
            // Vectors of four bytes, words or pairs of 16 bytes are all of those that PTX has.
            _ => std::ptr::copy_nonoverlapping(from, to, size),
        }
    }
}

/// Copies 16 aligned bytes with one load and one store, which processors with AVX do not divide.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_16(to: *mut u8, from: *const u8) {
    // SAFETY: as for `copy`; the instructions touch nothing else.
    unsafe {
        std::arch::asm!(
            "movdqa {value}, [{from}]",
            "movdqa [{to}], {value}",
            value = out(xmm_reg) _,
            from = in(reg) from,
            to = in(reg) to,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_16(to: *mut u8, from: *const u8) {
    // SAFETY: as for `copy`.
    unsafe { to.cast::<u128>().write_volatile(from.cast::<u128>().read_volatile()) };
}

/// The lanes of a mask, lowest first.
fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut mask = mask;
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}

unsafe fn mask_of(data: *const u8) -> u32 {
    // SAFETY: generated code has put the mask there.
    unsafe { data.cast::<u32>().read() }
}

/// Host addresses of the lanes of a mask, checked.
unsafe fn resolve(
    context: *mut Context,
    site: *const Site,
    access: &Access,
    data: *const u8,
    mask: u32,
    size: usize,
) -> [u64; 32] {
    // SAFETY: generated code has put addresses of this form into slot 0.
    let mut found = unsafe { addresses(access, data) };
    let align = (size as u64).min(16).next_power_of_two() - 1;
    // SAFETY: the context is the running one.
    let c = unsafe { &*context };
    let (base, bound, per_lane, absolute) = match access.space {
        Space::Generic | Space::Global | Space::Const => (0, c.window_size, 0, c.window_base),
        Space::Shared => (c.shared, c.shared_bytes, 0, 0),
        Space::Local => (c.local, c.local_bytes, c.local_stride, 0),
        Space::Param => (c.params, c.param_bytes, 0, 0),
    };
    let mut outside = 0u32;
    let mut crooked = 0u32;
    let narrow = bound < size as u64;
    let limit = bound.wrapping_sub(size as u64);
    for (lane, a) in found.iter_mut().enumerate() {
        outside |= u32::from(narrow | (a.wrapping_sub(absolute) > limit)) << lane;
        crooked |= u32::from(*a & align != 0) << lane;
        *a = a.wrapping_add(base).wrapping_add(per_lane * lane as u64);
    }
    let failed = (outside | crooked) & mask;
    if failed != 0 {
        let lane = failed.trailing_zeros() as usize;
        let kind = if outside >> lane & 1 == 1 { TrapKind::IllegalAddress } else { TrapKind::MisalignedAddress };
        // SAFETY: the site belongs to the code that runs.
        let at = unsafe { (*site).at };
        // SAFETY: generated code runs below us; nothing here needs dropping.
        unsafe { fail(context, Fault { kind, address: Some(found[lane]), at, message: None }) }
    }
    found
}

/// Addresses (or offsets) of all lanes, unchecked; of inactive lanes they mean nothing.
unsafe fn addresses(access: &Access, data: *const u8) -> [u64; 32] {
    let mut found = [0u64; 32];
    // SAFETY: slot 0 holds what the form says.
    let (wide, narrow) = unsafe {
        let at = data.add(slot(0));
        (at.cast::<[u64; 32]>(), at.cast::<[u32; 32]>())
    };
    // SAFETY: as above; the whole slot belongs to the data.
    let word = |i: usize| unsafe { wide.cast::<u64>().add(i).read() };
    match access.form {
        Form::Uniform => found = [word(0); 32],
        // SAFETY: as above.
        Form::Wide => found = unsafe { wide.read() },
        Form::Narrow => {
            // SAFETY: as above.
            let offsets = unsafe { narrow.read() };
            (0..32).for_each(|i| found[i] = u64::from(offsets[i]));
        }
        Form::Rows { lanes, stride } => {
            for row in 0..32 / lanes {
                let base = word(row);
                (0..lanes)
                    .for_each(|i| found[row * lanes + i] = base.wrapping_add_signed(stride.wrapping_mul(i as i64)));
            }
        }
        Form::NarrowRows { lanes, stride } => {
            for row in 0..32 / lanes {
                let base = word(row) as u32;
                for i in 0..lanes {
                    found[row * lanes + i] = u64::from(base.wrapping_add((stride as u32).wrapping_mul(i as u32)));
                }
            }
        }
        Form::Extended { lanes, signed, stride, scale } => {
            let rows = 32 / lanes;
            for row in 0..rows {
                let (base, high) = (word(row) as u32, word(rows + row));
                for i in 0..lanes {
                    let low = base.wrapping_add((stride as u32).wrapping_mul(i as u32));
                    let wide = if signed { i64::from(low as i32) } else { i64::from(low) };
                    found[row * lanes + i] = high.wrapping_add_signed(wide.wrapping_mul(scale));
                }
            }
        }
    }
    for a in &mut found {
        *a = a.wrapping_add_signed(access.offset);
    }
    found
}

fn access(site: *const Site) -> &'static Access {
    // SAFETY: sites live as long as the code that calls us; the reference does not outlive the call.
    match unsafe { &(*site).detail } {
        Detail::Memory(access) => access,
        // Memory helpers are called with memory sites only.
        _ => unreachable!(),
    }
}

/// `ld`, lane by lane.
pub(super) unsafe extern "C" fn load(context: *mut Context, site: *const Site, data: *mut u8) {
    let access = access(site);
    // SAFETY: generated code has put the mask there.
    let mut mask = unsafe { mask_of(data) };
    // Flat rows are loaded once per row: for all of its lanes if for any.
    if let Form::Rows { lanes, stride: 0 } | Form::NarrowRows { lanes, stride: 0 } = access.form
        && access.space != Space::Local
    {
        let row = ((1u64 << lanes) - 1) as u32;
        mask = (0..32 / lanes).map(|r| row << (r * lanes)).filter(|row| row & mask != 0).fold(0, |a, b| a | b);
    }
    let size = bytes_of(access.ty);
    // SAFETY: as the caller.
    let addresses = unsafe { resolve(context, site, access, data, mask, size * access.count) };
    if access.count == 1 && size == 4 && access.widths[0] == Width::B32 {
        let out = data.wrapping_add(value_slot(&access.widths, 0)).cast::<u32>();
        for lane in lanes_of(mask) {
            // SAFETY: the address is checked; the slot has 32 lanes.
            unsafe { out.add(lane).write((addresses[lane] as *const u32).read_volatile()) };
        }
        return;
    }
    let total = size * access.count;
    for lane in lanes_of(mask) {
        let mut whole = Whole([0; 32]);
        // SAFETY: the address is checked.
        unsafe { copy(whole.0.as_mut_ptr(), addresses[lane] as *const u8, total) };
        for (i, width) in access.widths.iter().enumerate() {
            if !access.wanted[i] {
                continue;
            }
            let out = data.wrapping_add(value_slot(&access.widths, i));
            let from = whole.0[i * size..].as_ptr();
            // SAFETY: the slots have 32 lanes of this width.
            unsafe {
                if size == 16 {
                    std::ptr::copy_nonoverlapping(from, out.add(16 * lane), 16);
                } else {
                    let v = scalar::fill(access.ty, read(from, size));
                    write(out.add(lane * bytes(*width)), bytes(*width), v);
                }
            }
        }
    }
}

/// `st`, lane by lane.
pub(super) unsafe extern "C" fn store(context: *mut Context, site: *const Site, data: *mut u8) {
    let access = access(site);
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    let size = bytes_of(access.ty);
    // SAFETY: as the caller.
    let addresses = unsafe { resolve(context, site, access, data, mask, size * access.count) };
    if access.count == 1 && size == 4 {
        let from = data.wrapping_add(value_slot(&access.widths, 0)).cast::<u32>();
        for lane in lanes_of(mask) {
            // SAFETY: the address is checked; the slot has 32 lanes.
            unsafe { (addresses[lane] as *mut u32).write_volatile(from.add(lane).read()) };
        }
        return;
    }
    let total = size * access.count;
    for lane in lanes_of(mask) {
        let mut whole = Whole([0; 32]);
        for (i, width) in access.widths.iter().enumerate() {
            let from = data.wrapping_add(value_slot(&access.widths, i));
            let to = whole.0[i * size..].as_mut_ptr();
            // SAFETY: the slots have 32 lanes of this width.
            unsafe {
                if size == 16 {
                    std::ptr::copy_nonoverlapping(from.add(16 * lane), to, 16);
                } else {
                    write(to, size, read(from.add(lane * bytes(*width)), bytes(*width)));
                }
            }
        }
        // SAFETY: the address is checked.
        unsafe { copy(addresses[lane] as *mut u8, whole.0.as_ptr(), total) };
    }
}

/// `atom` and `red`: lanes one after another.
pub(super) unsafe extern "C" fn atomic(context: *mut Context, site: *const Site, data: *mut u8) {
    let access = access(site);
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    let size = bytes_of(access.ty);
    // SAFETY: as the caller.
    let addresses = unsafe { resolve(context, site, access, data, mask, size) };
    let op = access.atomic.unwrap_or(AtomicOp::Exch);
    let (first, second) = (value_slot(&access.widths, 0), value_slot(&access.widths, 1));
    // SAFETY: the context is the running one.
    let (shared, shared_bytes) = unsafe { ((*context).shared, (*context).shared_bytes) };
    for lane in lanes_of(mask) {
        let address = addresses[lane];
        if size == 16 {
            // SAFETY: the address is checked and aligned; the slots have 32 lanes of 16 bytes.
            unsafe { atomics::wide(op, address, data.add(first + 16 * lane), data.add(second + 16 * lane)) };
            continue;
        }
        let width = bytes(access.widths[0]);
        // SAFETY: the slots have 32 lanes of this width.
        let a = unsafe { read(data.add(first + lane * width), width) };
        // SAFETY: as above.
        let b = unsafe { read(data.add(second + lane * width), width) };
        let private = address.wrapping_sub(shared) < shared_bytes;
        // SAFETY: the address is checked and aligned.
        let old = unsafe { atomics::apply(op, access.ty, address, a, b, private) };
        // SAFETY: as above.
        unsafe { write(data.add(first + lane * width), width, old) };
    }
}

unsafe fn note_arrivals(context: *mut Context, data: *const u8, waits: bool, reduction: Reduction) {
    // SAFETY: generated code has put mask, ids, counts and predicates there.
    let (mask, word) =
        unsafe { (mask_of(data), |i: usize, lane: usize| data.add(slot(i) + 4 * lane).cast::<u32>().read()) };
    let holds = if reduction == Reduction::None { 0 } else { word(2, 0) };
    let mut left = mask;
    while left != 0 {
        let lane = left.trailing_zeros() as usize;
        let (id, threads) = (word(0, lane), word(1, lane));
        let same = lanes_of(left).filter(|l| word(0, *l) == id).fold(0u32, |m, l| m | 1 << l);
        left &= !same;
        // SAFETY: the context is the running one, and nobody else refers to it now.
        unsafe {
            (*context).arrivals.push(Arrival { id, threads, waits, lanes: same, holds: holds & same, reduction });
        }
    }
}

macro_rules! barrier {
    ($name:ident, $waits:expr, $reduction:expr) => {
        /// Lanes come to a barrier.
        pub(super) unsafe extern "C" fn $name(context: *mut Context, _: *const Site, data: *mut u8) {
            // SAFETY: as the caller.
            unsafe { note_arrivals(context, data, $waits, $reduction) };
        }
    };
}

barrier!(barrier_wait, true, Reduction::None);
barrier!(barrier_arrive, false, Reduction::None);
barrier!(barrier_popc, true, Reduction::Popc);
barrier!(barrier_and, true, Reduction::And);
barrier!(barrier_or, true, Reduction::Or);

/// Asks whether the launch shall end early.
pub(super) unsafe extern "C" fn poll(context: *mut Context, site: *const Site, _: *mut u8) {
    // SAFETY: the context is the running one.
    unsafe { (*context).fuel = FUEL };
    // SAFETY: the environment outlives the run.
    let environment = unsafe { &*(*context).environment };
    if outside(|| environment.cancelled()) {
        // SAFETY: the site belongs to the code that runs.
        let at = unsafe { (*site).at };
        let fault = Fault { kind: TrapKind::Cancelled, address: None, at, message: None };
        // SAFETY: nothing here needs dropping.
        unsafe { fail(context, fault) }
    }
}

/// `trap`.
pub(super) unsafe extern "C" fn trap(context: *mut Context, site: *const Site, data: *mut u8) {
    // SAFETY: generated code has put the mask there.
    if unsafe { mask_of(data) } == 0 {
        return;
    }
    // SAFETY: the site belongs to the code that runs.
    let at = unsafe { (*site).at };
    // SAFETY: nothing here needs dropping.
    unsafe { fail(context, Fault { kind: TrapKind::Trap, address: None, at, message: None }) }
}

/// A call whose frame no longer fits.
pub(super) unsafe extern "C" fn stack_overflow(context: *mut Context, site: *const Site, data: *mut u8) {
    // SAFETY: generated code has put the mask there.
    if unsafe { mask_of(data) } == 0 {
        return;
    }
    // SAFETY: the site belongs to the code that runs.
    let at = unsafe { (*site).at };
    // SAFETY: nothing here needs dropping.
    unsafe { fail(context, Fault { kind: TrapKind::StackOverflow, address: None, at, message: None }) }
}

/// `%clock`.
pub(super) unsafe extern "C" fn clock(_: *mut Context, _: *const Site, data: *mut u8) {
    // SAFETY: reads a counter.
    let now = unsafe { std::arch::x86_64::_rdtsc() };
    // SAFETY: the data have a first slot.
    unsafe { data.add(slot(0)).cast::<u64>().write(now) };
}

/// `%globaltimer`, in nanoseconds.
pub(super) unsafe extern "C" fn timer(_: *mut Context, _: *const Site, data: *mut u8) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    // SAFETY: the data have a first slot.
    unsafe { data.add(slot(0)).cast::<u64>().write(now) };
}

fn operation(site: *const Site) -> (&'static Op, &'static [Width], &'static [Width]) {
    // SAFETY: sites live as long as the code that calls us; the references do not outlive the call.
    match unsafe { &(*site).detail } {
        Detail::Operation { op, arguments, results } => (op, arguments, results),
        // These helpers are called with operation sites only.
        _ => unreachable!(),
    }
}

/// An operation lane by lane.
unsafe extern "C" fn lanes(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, arguments, results) = operation(site);
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    let mut values = [0u64; 8];
    let mut predicates = [0u32; 8];
    for lane in lanes_of(mask) {
        for (i, width) in arguments.iter().enumerate().take(8) {
            let at = data.wrapping_add(slot(i));
            // SAFETY: slots hold 32 lanes of their width, or a mask.
            values[i] = unsafe {
                match width {
                    Width::Pred => u64::from(at.cast::<u32>().read() >> lane & 1),
                    w => read(at.add(lane * bytes(*w)), bytes(*w)),
                }
            };
        }
        let out = scalar::evaluate(op, &values[..arguments.len().min(8)]);
        for (i, width) in results.iter().enumerate() {
            let at = data.wrapping_add(slot(arguments.len() + i));
            match width {
                Width::Pred => predicates[i] |= (out[i] as u32 & 1) << lane,
                // SAFETY: as above.
                w => unsafe { write(at.add(lane * bytes(*w)), bytes(*w), out[i]) },
            }
        }
    }
    for (i, _) in results.iter().enumerate().filter(|(_, w)| **w == Width::Pred) {
        // SAFETY: as above.
        unsafe { data.add(slot(arguments.len() + i)).cast::<u32>().write(predicates[i]) };
    }
}

/// `isspacep`.
unsafe extern "C" fn is_space(context: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::IsSpace { space, .. } = op else { return };
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    // SAFETY: the context is the running one.
    let c = unsafe { &*context };
    let mut hits = 0u32;
    for lane in lanes_of(mask) {
        // SAFETY: slot 0 holds 32 addresses.
        let a = unsafe { data.add(slot(0) + 8 * lane).cast::<u64>().read() };
        let shared = a.wrapping_sub(c.shared) < c.shared_bytes;
        let local = a.wrapping_sub(c.local_arena) < c.local_arena_bytes;
        let param = a.wrapping_sub(c.params) < c.param_bytes;
        let inside = a.wrapping_sub(c.window_base) < c.window_size;
        let hit = match space {
            Space::Shared => shared,
            Space::Local => local,
            Space::Param => param,
            Space::Const => false,
            Space::Global | Space::Generic => inside && !shared && !local && !param,
        };
        hits |= u32::from(hit) << lane;
    }
    // SAFETY: the result's slot follows.
    unsafe { data.add(slot(1)).cast::<u32>().write(hits) };
}

/// `cp.async`.
unsafe extern "C" fn copy_async(context: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::CopyAsync { to, from, bytes: count, source_bytes } = op else { return };
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    let describe = |address: &crate::ir::Address, size: usize| Access {
        space: address.space,
        form: if matches!(address.space, Space::Shared | Space::Local | Space::Param) {
            Form::Narrow
        } else {
            Form::Wide
        },
        offset: address.offset,
        ty: Type::B8,
        count: size,
        widths: Vec::new(),
        wanted: Vec::new(),
        atomic: None,
    };
    let size = *count as usize;
    // Empty vectors own nothing, so leaving from within `resolve` loses nothing.
    let (target, source) = (describe(to, size), describe(from, size));
    // SAFETY: as the caller; the target's addresses are in slot 0.
    let targets = unsafe { resolve(context, site, &target, data, mask, size) };
    for lane in lanes_of(mask) {
        let wanted = match source_bytes {
            // SAFETY: slot 2 holds 32 counts.
            Some(_) => (unsafe { data.add(slot(2) + 4 * lane).cast::<u32>().read() } as usize).min(size),
            None => size,
        };
        let to = targets[lane] as *mut u8;
        if wanted > 0 {
            // SAFETY: slot 1 is read where slot 0 is expected: one slot further.
            let sources = unsafe { resolve(context, site, &source, data.add(256), 1 << lane, size) };
            // SAFETY: both ranges are checked.
            unsafe { std::ptr::copy(sources[lane] as *const u8, to, wanted) };
        }
        // SAFETY: the range is checked.
        unsafe { std::ptr::write_bytes(to.add(wanted), 0, size - wanted) };
    }
}
