//! A GPU at the other end of a connection.

mod inbound;
mod outbox;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

// All of it, so that a new row of the table finds its types.
use cuda::*;
use serde::de::DeserializeOwned;

use crate::calls::opcode;
use crate::encoding::{Argument, put_length, take_value};
use crate::frame::{self, CHUNK};
use crate::hello::{Hello, HelloError, greet};
use crate::transport::{LOOK_FOR_LOST, Transport, end_if_lost};
use crate::{Endpoint, pieces};
use inbound::{Inbound, Waiter};
use outbox::Outbox;

/// Up to this size the bytes of a copy to the device are taken along with the commands; beyond, they are sent from where
/// they lie.
const SMALL: usize = 16 << 10;

/// Bytes of copies to the host that complete later. Beyond, such a copy is waited for, as CUDA allows.
const MAX_LATER: usize = 64 << 20;

/// A worker that is starting anew is asked again after so long.
const COME_AGAIN: Duration = Duration::from_millis(50);

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// What to say in the handshake.
    pub hello: Hello,
    /// How long to try to reach the worker.
    pub connect_timeout: Duration,
    /// How long the worker may take to open its GPU.
    pub hello_timeout: Duration,
}

impl ConnectOptions {
    /// Five seconds to connect, a minute for a GPU that must be woken.
    ///
    /// # Errors
    /// The operating system has no randomness for the session key.
    pub fn new() -> io::Result<Self> {
        let (connect_timeout, hello_timeout) = (Duration::from_secs(5), Duration::from_secs(60));
        Ok(Self { hello: Hello::new()?, connect_timeout, hello_timeout })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody can be reached there.
    #[error("cannot reach a worker at `{endpoint}`")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Whoever is there does not serve us.
    #[error("no session with the worker at `{endpoint}`")]
    NoSession {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: HelloError,
    },
    /// This process can start no more threads.
    #[error("cannot start a thread for the connection")]
    Thread(#[source] io::Error),
}

/// A [`Driver`] whose calls travel to a worker.
pub struct Remote {
    link: Arc<Link>,
    info: DriverInfo,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("info", &self.info).finish_non_exhaustive()
    }
}

struct Link {
    outbox: Outbox,
    inbound: Inbound,
}

thread_local! {
    static WAITER: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

/// This thread's waiter; a fresh one where thread-local storage is gone already.
fn with_waiter<T>(call: impl FnOnce(&Arc<Waiter>) -> T) -> T {
    let taken = WAITER.try_with(|place| place.try_borrow_mut().ok().and_then(|mut waiter| waiter.take()));
    let waiter = taken.ok().flatten().unwrap_or_else(|| Arc::new(Waiter::new()));
    let result = call(&waiter);
    // When the storage is gone, the waiter just goes too.
    WAITER.try_with(|place| place.replace(Some(waiter))).ok();
    result
}

/// Whether the peer hung up without a word. Before the welcome nothing has been asked of it, so asking again is safe.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl Remote {
    /// Connects to a worker and opens a session.
    ///
    /// # Errors
    /// The worker cannot be reached, or refuses.
    pub fn connect(endpoint: &Endpoint, options: &ConnectOptions, sink: Arc<dyn Sink>) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + options.hello_timeout;
        // A worker that became another process while it was greeted; whoever keeps hanging up is none.
        let mut hung_up = 0;
        loop {
            let socket = endpoint
                .connect(options.connect_timeout)
                .map_err(|source| ConnectError::Unreachable { endpoint: endpoint.clone(), source })?;
            match Self::over(Arc::new(socket), options, Arc::clone(&sink)) {
                Ok(remote) => return Ok(remote),
                Err(OverError::Hello(HelloError::ComeAgain)) if Instant::now() < deadline => {
                    std::thread::sleep(COME_AGAIN);
                }
                Err(OverError::Hello(HelloError::Broken(error))) if hung_up < 2 && is_end(&error) => hung_up += 1,
                Err(OverError::Hello(source)) => {
                    return Err(ConnectError::NoSession { endpoint: endpoint.clone(), source });
                }
                Err(OverError::Thread(error)) => return Err(ConnectError::Thread(error)),
            }
        }
    }

    fn over(transport: Arc<dyn Transport>, options: &ConnectOptions, sink: Arc<dyn Sink>) -> Result<Self, OverError> {
        let welcome = greet(&*transport, &options.hello, options.hello_timeout).map_err(OverError::Hello)?;
        let (sender, callbacks) = mpsc::channel();
        let watched = Arc::clone(&transport);
        let link = Arc::new(Link {
            outbox: Outbox::new(Arc::clone(&transport)),
            inbound: Inbound::new(transport, Arc::clone(&sink), sender),
        });
        // What the worker's process reaches, this one does not.
        let info = DriverInfo { shares_process: false, ..welcome.info };
        let remote = Self { link: Arc::clone(&link), info };
        // If one of these fails, `remote` is dropped and ends the others.
        let flusher = Arc::clone(&link);
        start("tf-flush", move || flusher.outbox.run_flusher())?;
        let standby = Arc::clone(&link);
        start("tf-standby", move || standby.inbound.run_standby())?;
        let link = Arc::downgrade(&link);
        start("tf-callback", move || {
            loop {
                let ticket = match callbacks.recv_timeout(LOOK_FOR_LOST) {
                    Ok(ticket) => ticket,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        end_if_lost(&*watched);
                        continue;
                    }
                };
                sink.reached(ticket);
                let Some(link) = link.upgrade() else { return };
                link.outbox.post_now(
                    frame::CALLBACK_DONE,
                    |out| out.extend_from_slice(&ticket.0.to_le_bytes()),
                    |_| (),
                );
            }
        })?;
        Ok(remote)
    }
}

enum OverError {
    Hello(HelloError),
    Thread(io::Error),
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OverError> {
    // Signals of the application are for the application's threads.
    let blocked = SignalsBlocked::new();
    let started = std::thread::Builder::new().name(name.to_owned()).stack_size(512 << 10).spawn(run);
    drop(blocked);
    started.map(drop).map_err(OverError::Thread)
}

/// While it lives, this thread takes no signals, and neither will threads that it starts.
struct SignalsBlocked(libc::sigset_t);

#[expect(unsafe_code, reason = "the standard library knows no signal masks")]
impl SignalsBlocked {
    fn new() -> Self {
        // SAFETY: a sigset_t is plain bits, and zeros are a valid set.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        let mut old = all;
        // SAFETY: the set is ours.
        unsafe { libc::sigfillset(&mut all) };
        // SAFETY: both sets are ours and outlive the call.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old) };
        debug_assert_eq!(result, 0);
        Self(old)
    }
}

#[expect(unsafe_code, reason = "see above")]
impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the same call in `new`.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        debug_assert_eq!(result, 0);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.link.outbox.flush();
        self.link.outbox.close();
        self.link.inbound.close();
    }
}

/// Whether a call tells the errors of earlier one-way calls. One that has made or freed something does not: its own
/// success must be known, and the error waits for the next call.
fn tells_earlier_errors(opcode: u16) -> bool {
    !matches!(opcode, opcode::usage | opcode::mem_map | opcode::mem_alloc | opcode::mem_unmap | opcode::module_load)
}

impl Link {
    fn check(&self, opcode: u16) -> CuResult {
        // What the vGPU is doing can be asked when a context is lost; not when the connection is.
        let exempt = opcode == opcode::usage && !self.inbound.is_closed() && !self.outbox.is_broken();
        if exempt { Ok(()) } else { self.inbound.check() }
    }

    fn post(&self, opcode: u16, payload: impl FnOnce(&mut Vec<u8>)) -> CuResult {
        self.check(opcode)?;
        if self.outbox.is_broken() {
            return Err(CuError::DEVICE_UNAVAILABLE);
        }
        self.outbox.post(opcode, payload);
        Ok(())
    }

    /// Sends a command by `send` and waits for its answer.
    fn ask<T: DeserializeOwned>(
        &self,
        opcode: u16,
        target: Option<HostBuffer>,
        send: impl FnOnce(&Outbox, &dyn Fn(u64)),
    ) -> CuResult<T> {
        self.check(opcode)?;
        let answer = with_waiter(|waiter| {
            send(&self.outbox, &|id| self.inbound.expect(id, waiter, target));
            self.inbound.wait(waiter)
        });
        let own = CuError::check(answer.status);
        if tells_earlier_errors(opcode) {
            // Its own error first; the earlier one then waits for the next call.
            own?;
            self.inbound.take_deferred()?;
        }
        own?;
        let mut rest = &*answer.value;
        take_value(&mut rest).map_err(|_| CuError::DEVICE_UNAVAILABLE)
    }

    fn call<T: DeserializeOwned>(&self, opcode: u16, payload: impl FnOnce(&mut Vec<u8>)) -> CuResult<T> {
        self.ask(opcode, None, |outbox, register| outbox.post_now(opcode, payload, register))
    }

    fn copy_to_device(&self, stream: StreamId, target: Region, data: &[u8]) -> CuResult {
        if target.bytes() != Some(data.len() as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        if data.len() <= SMALL {
            return self.post(opcode::copy_to_device, |out| {
                stream.put(out);
                target.put(out);
                data.put(out);
            });
        }
        for piece in pieces(target, CHUNK as u64) {
            self.check(opcode::copy_to_device)?;
            if self.outbox.is_broken() {
                return Err(CuError::DEVICE_UNAVAILABLE);
            }
            let (start, length) = (piece.offset as usize, piece.length as usize);
            let bytes = data.get(start..start + length).ok_or(CuError::INVALID_VALUE)?;
            let head = |out: &mut Vec<u8>| {
                stream.put(out);
                piece.region.put(out);
                put_length(length, out);
            };
            self.outbox.send_bulk(opcode::copy_to_device, head, bytes);
        }
        Ok(())
    }

    fn module_load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        let head = |out: &mut Vec<u8>| {
            context.put(out);
            module.put(out);
            put_length(image.len(), out);
        };
        if image.len() > frame::MAX_MESSAGE - 64 {
            return Err(CuError::INVALID_VALUE);
        }
        if image.len() <= SMALL {
            return self.call(opcode::module_load, |out| {
                head(out);
                out.extend_from_slice(image);
            });
        }
        self.ask(opcode::module_load, None, |outbox, register| {
            outbox.send_parts(opcode::module_load, head, image, register);
        })
    }

    fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
        if source.bytes() != Some(target.length as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        if target.length == 0 {
            return self.check(frame::COPY_TO_HOST);
        }
        // What completes later lies in the worker's memory until it is sent, so it is bounded.
        let wait = wait || self.inbound.later().saturating_add(target.length) > MAX_LATER;
        let payload = |out: &mut Vec<u8>| {
            stream.put(out);
            source.put(out);
            wait.put(out);
        };
        if wait {
            return self.ask(frame::COPY_TO_HOST, Some(target), |outbox, register| {
                outbox.post_now(frame::COPY_TO_HOST, payload, register);
            });
        }
        self.check(frame::COPY_TO_HOST)?;
        self.outbox.post_now(frame::COPY_TO_HOST, payload, |id| self.inbound.expect_later(id, target));
        Ok(())
    }
}

macro_rules! remote {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        impl Driver for Remote {
            fn info(&self) -> &DriverInfo {
                &self.info
            }

            $(
                fn $name(&self, $($arg: $type),*) -> CuResult<remote!(@answer $($answer)?)> {
                    remote!(@body $class $name self ($($arg),*))
                }
            )*

            fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
                self.link.copy_to_host(stream, target, source, wait)
            }

            fn abandon(&self) {
                self.link.outbox.close();
                self.link.inbound.close();
            }
        }
    };
    (@answer) => { () };
    (@answer $answer:ty) => { $answer };
    (@body one_way copy_to_device $self:ident ($($arg:ident),*)) => { $self.link.copy_to_device($($arg),*) };
    (@body round_trip module_load $self:ident ($($arg:ident),*)) => { $self.link.module_load($($arg),*) };
    (@body one_way host_callback $self:ident ($($arg:ident),*)) => {{
        $self.link.inbound.attend();
        $self.link.post(opcode::host_callback, |out| { $($arg.put(out);)* })
    }};
    (@body one_way $name:ident $self:ident ($($arg:ident),*)) => {
        $self.link.post(opcode::$name, |out| { $($arg.put(out);)* })
    };
    (@body $class:ident $name:ident $self:ident ($($arg:ident),*)) => {
        $self.link.call(opcode::$name, |out| { $($arg.put(out);)* })
    };
}

cuda::driver_calls!(remote);
