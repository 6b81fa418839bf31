//! The few services of the operating system that the standard library does not offer.
#![expect(unsafe_code, reason = "signals and sessions are reached through libc")]

use std::{
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    ptr,
};

/// The user that we are.
pub(crate) fn user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Leaves the terminal and the session that we were started in, and whatever signals our parent held back.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: no arguments; fails where we lead a process group already.
    if unsafe { libc::setsid() } == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut none = MaybeUninit::uninit();
    // SAFETY: `none` is valid for the write, which initializes it.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was initialized above.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Signals that are held back from this process, to be taken one by one.
pub(crate) struct Signals {
    taken: libc::sigset_t,
    before: libc::sigset_t,
}

/// One signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signal {
    /// Its number.
    pub(crate) number: i32,
    /// It came from the kernel (a key, a hangup), which sends it to the whole process group.
    pub(crate) from_terminal: bool,
}

/// What is passed on to the program. Stopping (`SIGTSTP`) is left to the shell and the process group.
const PASSED_ON: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGCONT,
];

impl Signals {
    /// Holds back what is passed on, and the news of children, in this thread and those that it starts.
    pub(crate) fn hold_back() -> io::Result<Self> {
        let mut taken = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `taken` is valid for the write, which initializes it.
        unsafe { libc::sigemptyset(taken.as_mut_ptr()) };
        for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
            // SAFETY: `taken` was initialized above; the numbers are valid.
            unsafe { libc::sigaddset(taken.as_mut_ptr(), signal) };
        }
        // SAFETY: `taken` is initialized, `before` is valid for the write.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, taken.as_ptr(), before.as_mut_ptr()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        // SAFETY: both are initialized by the successful calls above.
        Ok(unsafe { Self { taken: taken.assume_init(), before: before.assume_init() } })
    }

    /// Waits for the next one.
    pub(crate) fn next(&self) -> io::Result<Signal> {
        loop {
            let mut about = MaybeUninit::<libc::siginfo_t>::uninit();
            // SAFETY: the set is initialized, `about` is valid for the write.
            let number = unsafe { libc::sigwaitinfo(&raw const self.taken, about.as_mut_ptr()) };
            if number > 0 {
                // SAFETY: the successful call has written it.
                let about = unsafe { about.assume_init() };
                return Ok(Signal { number, from_terminal: about.si_code == libc::SI_KERNEL });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Starts a program that gets its signals as we did, and that ends when this process ends in whatever way.
    ///
    /// To be called by the main thread: the kernel ends the program when the *thread* ends that started it.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = self.before;
        let parent = std::process::id();
        let prepare = move || {
            // SAFETY: plain numbers; the call is async-signal-safe.
            if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == -1 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: no arguments, async-signal-safe.
            if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
                // The parent ended before the line above.
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // SAFETY: the set is initialized; the call is async-signal-safe.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) } {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        };
        // SAFETY: the closure calls async-signal-safe functions only, and allocates nothing.
        unsafe { command.pre_exec(prepare) }.spawn()
    }
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn send(child: &Child, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: plain numbers; the child has not been waited for, so the number is still its own.
    if unsafe { libc::kill(pid, signal) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number under which the program that this process becomes finds `descriptor`.
pub(crate) fn bequeath(descriptor: BorrowedFd<'_>) -> io::Result<RawFd> {
    // SAFETY: a plain system call on an open descriptor. Unlike the standard library's copies, this one outlives `exec`.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD, 3) };
    if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(copy) }
}

/// Takes what was left under this number by [`bequeath`] in the program that this process was before.
pub(crate) fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call, which fails for a number that is no open descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, as was just seen; and only the command line knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `descriptor` the standard output.
pub(crate) fn restore_stdout(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain system call on open descriptors.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), libc::STDOUT_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until one of them can be read, or has ended.
pub(crate) fn wait_for(descriptors: [BorrowedFd<'_>; 2]) -> io::Result<[bool; 2]> {
    let mut asked = descriptors.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: two entries, valid for the call.
        if unsafe { libc::poll(asked.as_mut_ptr(), 2, -1) } >= 0 {
            return Ok(asked.map(|asked| asked.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Ends this process now, whatever its threads are doing.
pub(crate) fn end_now(code: i32) -> ! {
    // SAFETY: no destructors run, which is what is wanted: a thread may be inside a kernel or a vendor's driver.
    unsafe { libc::_exit(code) }
}

/// What happens goes to the standard error; `TENSOR_FUSION_LOG` says how much of it.
pub(crate) fn log_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TENSOR_FUSION_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
