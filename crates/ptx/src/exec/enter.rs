//! The border between Rust and generated code: entering, leaving early, helper calls, and faults.
//!
//! Faults of memory accesses inside the window are not foreseeable (a page may not be mapped), so a signal handler turns
//! them into traps: when the faulting thread is running a warp, it goes on at [`leave`], which gives the entry's
//! registers back and returns from [`enter`]. Helpers that may fault or leave keep nothing that needs dropping.

use super::TrapKind;
use super::context::{Context, Fault, status};
use std::cell::Cell;
use std::sync::Once;

thread_local! {
    /// The context whose code this thread runs, for the signal handler.
    static RUNNING: Cell<*mut Context> = const { Cell::new(std::ptr::null_mut()) };
}

/// Calls generated code.
///
/// # Safety
/// `code` is the entry of a compiled kernel that matches the context.
#[unsafe(naked)]
unsafe extern "C" fn enter(context: *mut Context, code: *const u8) -> u32 {
    std::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi], rsp",
        "call rsi",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Returns from the innermost [`enter`] of a context with a status, whatever stands on the stack.
///
/// # Safety
/// The calling thread is inside `enter(context, ..)`, and frames in between need no cleaning up.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn leave(context: *mut Context, status: u32) -> ! {
    std::arch::naked_asm!(
        "mov rsp, [rdi]",
        "mov eax, esi",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// How generated code calls helpers: `(context, site, data)`, all registers preserved. The site begins with the address
/// of a function of the C calling convention.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn call_helper() {
    std::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "sub rsp, 264",
        "and rsp, -16",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "movaps [rsp + 128], xmm8",
        "movaps [rsp + 144], xmm9",
        "movaps [rsp + 160], xmm10",
        "movaps [rsp + 176], xmm11",
        "movaps [rsp + 192], xmm12",
        "movaps [rsp + 208], xmm13",
        "movaps [rsp + 224], xmm14",
        "movaps [rsp + 240], xmm15",
        "mov [rdi + 8], rsi",
        "call [rsi]",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "movaps xmm8, [rsp + 128]",
        "movaps xmm9, [rsp + 144]",
        "movaps xmm10, [rsp + 160]",
        "movaps xmm11, [rsp + 176]",
        "movaps xmm12, [rsp + 192]",
        "movaps xmm13, [rsp + 208]",
        "movaps xmm14, [rsp + 224]",
        "movaps xmm15, [rsp + 240]",
        "lea rsp, [rbp - 72]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
    )
}

/// Runs a warp.
///
/// # Safety
/// As for [`enter`]; everything that the context points to is valid.
pub(super) unsafe fn run_warp(context: &mut Context, code: *const u8) -> u32 {
    let context: *mut Context = context;
    RUNNING.with(|running| running.set(context));
    // SAFETY: passed on.
    let status = unsafe { enter(context, code) };
    RUNNING.with(|running| running.set(std::ptr::null_mut()));
    status
}

/// Runs foreign code (the environment's) from a helper: faults in there are not ours.
pub(super) fn outside<R>(f: impl FnOnce() -> R) -> R {
    let context = RUNNING.with(|running| running.replace(std::ptr::null_mut()));
    let result = f();
    RUNNING.with(|running| running.set(context));
    result
}

/// Ends the launch from a helper.
///
/// # Safety
/// As for [`leave`].
pub(super) unsafe fn fail(context: *mut Context, fault: Fault) -> ! {
    // SAFETY: the context is the running one, and no reference to it is in use across this write.
    unsafe { (*context).fault = Some(fault) };
    // SAFETY: passed on.
    unsafe { leave(context, status::TRAPPED) }
}

static INSTALL: Once = Once::new();
static mut PREVIOUS: [libc::sigaction; 3] = [const { unsafe_zeroed() }; 3];
const SIGNALS: [i32; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL];

const fn unsafe_zeroed() -> libc::sigaction {
    // SAFETY: the type is plain data for which zeros are valid (`SIG_DFL`, no flags).
    unsafe { std::mem::zeroed() }
}

/// Installs the fault handler, once per process; handlers that were there keep getting the faults that are not ours.
pub(super) fn install() {
    INSTALL.call_once(|| {
        for (i, signal) in SIGNALS.into_iter().enumerate() {
            let mut action = unsafe_zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            // SAFETY: the set is a local that outlives the call.
            unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
            // SAFETY: `handle` is async-signal-safe; the slot is written only here, before any handler can run.
            unsafe { libc::sigaction(signal, &raw const action, &raw mut PREVIOUS[i]) };
        }
    });
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, machine: *mut libc::c_void) {
    let context = RUNNING.try_with(Cell::get).unwrap_or(std::ptr::null_mut());
    if !context.is_null() {
        // SAFETY: the kernel gives valid pointers; for these signals `si_addr` is set.
        let address = unsafe { (*info).si_addr() } as u64;
        let machine = machine.cast::<libc::ucontext_t>();
        // SAFETY: as above.
        let registers = unsafe { &mut (*machine).uc_mcontext.gregs };
        let pc = registers[libc::REG_RIP as usize] as u64;
        // SAFETY: this thread runs the context's code, and was interrupted where no reference into it is written to.
        let running = unsafe { &mut *context };
        let inside = address.wrapping_sub(running.window_base) < running.window_size;
        let generated = (running.code.0..running.code.1).contains(&pc);
        if inside || generated {
            let at = if generated {
                // SAFETY: the table belongs to the code that runs.
                position(unsafe { &*running.positions }, (pc - running.code.0) as u32)
            } else {
                // SAFETY: the site of the helper that faulted belongs to the code that runs.
                unsafe { running.site.as_ref() }.map_or_else(Default::default, |site| site.at)
            };
            let kind = if signal == libc::SIGILL { TrapKind::IllegalInstruction } else { TrapKind::IllegalAddress };
            let address = (signal != libc::SIGILL).then_some(address);
            running.fault = Some(Fault { kind, address, at, message: None });
            registers[libc::REG_RIP as usize] = leave as *const () as i64;
            registers[libc::REG_RDI as usize] = context as i64;
            registers[libc::REG_RSI as usize] = i64::from(status::TRAPPED);
            return;
        }
    }
    let Some(i) = SIGNALS.iter().position(|s| *s == signal) else { return };
    // SAFETY: written once before handlers run.
    let previous = unsafe { PREVIOUS[i] };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The fault repeats on return and then ends the process as it would have without us.
            let mut default = unsafe_zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            // SAFETY: valid arguments.
            unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the value is a function of this type.
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, machine);
        }
        handler => {
            // SAFETY: without SA_SIGINFO the value is a function of this type.
            let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

/// The source position of an offset in generated code: the table is sorted by beginning.
fn position(table: &[(u32, crate::Position)], offset: u32) -> crate::Position {
    let after = table.partition_point(|(begin, _)| *begin <= offset);
    after.checked_sub(1).and_then(|i| table.get(i)).map_or_else(Default::default, |(_, at)| *at)
}
