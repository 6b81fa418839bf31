//! The handshake, the only thing that is understood before a client is known.
//!
//! Both directions start with the same 20 bytes, which no later version may change, so that two versions can always
//! tell each other that they do not fit:
//!
//! ```text
//! 8 bytes "TNSRFUSN"   u16 protocol version   u16 status   u64 length of the body
//! ```
//!
//! Status is 0 for a hello and a welcome. A client that only asks whether it would be taken says hello with status 1, and is
//! answered without a body. Any other status is a refusal's, whose body is the reason as text.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use cuda::DriverInfo;
use serde::{Deserialize, Serialize};
use types::Token;

use crate::calls::{FINGERPRINT, PROTOCOL_VERSION};
use crate::transport::{Transport, send_all};

const MAGIC: [u8; 8] = *b"TNSRFUSN";
const PREFIX: usize = 20;
/// Longest hello or refusal.
const MAX_HELLO: usize = 16 << 10;
/// Longest welcome: the attributes of a few devices.
const MAX_WELCOME: usize = 1 << 20;

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's version, for logs and refusals.
    pub client: String,
    /// Hash of the client's call table.
    pub calls: u64,
    /// Process id of the application.
    pub pid: u32,
    /// Compute capability times ten that a software device should have for this client.
    pub compute_capability: Option<u32>,
    /// Proof that the client may use the worker.
    pub token: Option<Token>,
    /// Names the session; whoever knows it may resume it. (Workers of version 1 do not resume.)
    pub session_key: [u8; 16],
}

/// What a worker says to a client that it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The worker's version.
    pub worker: String,
    /// The vGPU.
    pub info: DriverInfo,
}

/// Why a worker does not take a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another protocol version or another call table.
    Version(String),
    /// The token is missing or wrong.
    Token,
    /// As many sessions as are allowed.
    Full(u32),
    /// The GPU cannot be opened.
    Driver(String),
    /// The hello is none.
    Malformed,
    /// Any other reason, as a later version may give.
    Other(String),
    /// The worker will take the client in a moment.
    ComeAgain,
}

/// The status of [`Refusal::Token`].
const WRONG_TOKEN: u16 = 2;
/// The status of [`Refusal::ComeAgain`].
const COME_AGAIN: u16 = 7;
/// The status of a hello that only asks.
const ASKS: u16 = 1;

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::Version(_) => 1,
            Self::Token => WRONG_TOKEN,
            Self::Full(_) => 3,
            Self::Driver(_) => 4,
            Self::Malformed => 5,
            Self::Other(_) => 6,
            Self::ComeAgain => COME_AGAIN,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(text) | Self::Driver(text) | Self::Other(text) => f.write_str(text),
            Self::Token => f.write_str("the token is missing or wrong"),
            Self::Full(limit) => write!(f, "the worker already serves {limit} sessions, which is its limit"),
            Self::Malformed => f.write_str("the hello is malformed"),
            Self::ComeAgain => f.write_str("the worker is starting anew: connect again in a moment"),
        }
    }
}

/// A handshake that did not end in a session.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The peer speaks something else.
    #[error("the peer does not speak Tensor Fusion's protocol")]
    NotOurs,
    /// The peer speaks another version, or has refused us.
    #[error("refused by the worker: {0}")]
    Refused(String),
    /// The worker wants another token.
    #[error("refused by the worker: {}", Refusal::Token)]
    WrongToken,
    /// The worker is about to be ready.
    #[error("the worker did not get ready in time")]
    ComeAgain,
    /// The client cannot be taken.
    #[error("{0}")]
    Refuse(Refusal),
    /// The connection ended, or the peer took too long.
    #[error("the connection ended during the handshake")]
    Broken(#[from] io::Error),
}

impl Hello {
    /// What this process says by default.
    ///
    /// # Errors
    /// The operating system has no randomness for the session key.
    pub fn new() -> io::Result<Self> {
        let mut session_key = [0; 16];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut session_key)?;
        Ok(Self {
            client: concat!("tensor-fusion ", env!("CARGO_PKG_VERSION")).to_owned(),
            calls: FINGERPRINT,
            pid: std::process::id(),
            compute_capability: None,
            token: None,
            session_key,
        })
    }
}

/// The client's part: says hello and waits for the welcome.
///
/// # Errors
/// The worker refuses, is something else, or does not answer in time.
pub fn greet(transport: &dyn Transport, hello: &Hello, patience: Duration) -> Result<Welcome, HelloError> {
    let deadline = Instant::now() + patience;
    let length = say(transport, hello, 0, deadline)?;
    let welcome = receive_body(transport, bounded(length, MAX_WELCOME)?, deadline)?;
    let welcome = crate::encoding::take_value(&mut &*welcome).map_err(|_| HelloError::NotOurs)?;
    transport.set_receive_timeout(None)?;
    Ok(welcome)
}

/// Asks whether whoever is there is a worker that would take us. It opens no GPU for that, and its log tells nothing of us but why
/// it would not.
///
/// # Errors
/// The worker would refuse, is something else, or does not answer in time.
pub fn ask(transport: &dyn Transport, hello: &Hello, patience: Duration) -> Result<(), HelloError> {
    match say(transport, hello, ASKS, Instant::now() + patience) {
        // By the time that we really come it has.
        Ok(_) | Err(HelloError::ComeAgain) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says hello; the length of what follows when the answer is yes.
fn say(transport: &dyn Transport, hello: &Hello, status: u16, deadline: Instant) -> Result<usize, HelloError> {
    let mut body = Vec::new();
    crate::encoding::put_value(hello, &mut body);
    send(transport, status, &body)?;
    let prefix = receive_prefix(transport, deadline)?;
    if prefix.status == COME_AGAIN {
        return Err(HelloError::ComeAgain);
    }
    if prefix.status == WRONG_TOKEN {
        return Err(HelloError::WrongToken);
    }
    if prefix.status != 0 {
        let reason = receive_body(transport, prefix.length.min(MAX_HELLO), deadline)?;
        let reason: String = String::from_utf8_lossy(&reason).chars().filter(|c| !c.is_control()).collect();
        return Err(HelloError::Refused(reason));
    }
    if prefix.version != PROTOCOL_VERSION {
        let theirs = prefix.version;
        return Err(HelloError::Refused(format!("it speaks protocol version {theirs}, we speak {PROTOCOL_VERSION}")));
    }
    Ok(prefix.length)
}

/// What a client has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who it is.
    pub hello: Hello,
    /// It only wants to know whether it would be taken; the answer is [`refuse`] or [`agree`].
    pub only_asks: bool,
}

/// The worker's first part: waits for a hello that it can understand. Everything else has been answered.
///
/// # Errors
/// The peer is something else, another version, or too slow.
pub fn listen(transport: &dyn Transport, patience: Duration) -> Result<Said, HelloError> {
    let deadline = Instant::now() + patience;
    let prefix = receive_prefix(transport, deadline)?;
    let refuse = |refusal: Refusal| {
        let sent = refuse(transport, &refusal);
        sent.map_or_else(HelloError::Broken, |()| HelloError::Refuse(refusal))
    };
    if prefix.version != PROTOCOL_VERSION {
        let theirs = prefix.version;
        let text = format!("the client speaks protocol version {theirs}, this worker speaks {PROTOCOL_VERSION}");
        return Err(refuse(Refusal::Version(text)));
    }
    let Ok(length) = bounded(prefix.length, MAX_HELLO) else { return Err(refuse(Refusal::Malformed)) };
    let body = receive_body(transport, length, deadline)?;
    let Ok(hello) = crate::encoding::take_value::<Hello>(&mut &*body) else {
        return Err(refuse(Refusal::Malformed));
    };
    if hello.calls != FINGERPRINT {
        let theirs: String = hello.client.chars().filter(|c| !c.is_control()).take(80).collect();
        let ours = env!("CARGO_PKG_VERSION");
        let text =
            format!("the client `{theirs}` and this worker {ours} have different call tables: use the same build");
        return Err(refuse(Refusal::Version(text)));
    }
    transport.set_receive_timeout(None)?;
    Ok(Said { hello, only_asks: prefix.status == ASKS })
}

/// Tells a client that only asks that it would be taken.
///
/// # Errors
/// The connection is broken.
pub fn agree(transport: &dyn Transport) -> io::Result<()> {
    send(transport, 0, &[])
}

/// The worker's second part.
///
/// # Errors
/// The connection is broken.
pub fn welcome(transport: &dyn Transport, info: &DriverInfo) -> io::Result<()> {
    let mut body = Vec::new();
    let worker = concat!("tensor-fusion ", env!("CARGO_PKG_VERSION")).to_owned();
    crate::encoding::put_value(&Welcome { worker, info: info.clone() }, &mut body);
    send(transport, 0, &body)
}

/// Tells a client why it is not taken.
///
/// # Errors
/// The connection is broken.
pub fn refuse(transport: &dyn Transport, refusal: &Refusal) -> io::Result<()> {
    send(transport, refusal.status(), refusal.to_string().as_bytes())
}

struct Prefix {
    version: u16,
    status: u16,
    length: usize,
}

fn bounded(length: usize, limit: usize) -> Result<usize, HelloError> {
    if length > limit { Err(HelloError::NotOurs) } else { Ok(length) }
}

fn send(transport: &dyn Transport, status: u16, body: &[u8]) -> io::Result<()> {
    let mut prefix = Vec::with_capacity(PREFIX);
    prefix.extend_from_slice(&MAGIC);
    prefix.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    prefix.extend_from_slice(&status.to_le_bytes());
    prefix.extend_from_slice(&(body.len() as u64).to_le_bytes());
    send_all(transport, &mut [IoSlice::new(&prefix), IoSlice::new(body)])
}

fn receive_prefix(transport: &dyn Transport, deadline: Instant) -> Result<Prefix, HelloError> {
    // The magic first: garbage shorter than a prefix is recognized without waiting for the rest.
    let magic = receive_body(transport, MAGIC.len(), deadline)?;
    if magic != MAGIC {
        return Err(HelloError::NotOurs);
    }
    let rest = receive_body(transport, PREFIX - MAGIC.len(), deadline)?;
    let [v0, v1, s0, s1, length @ ..] = <[u8; 12]>::try_from(&*rest).map_err(|_| HelloError::NotOurs)?;
    Ok(Prefix {
        version: u16::from_le_bytes([v0, v1]),
        status: u16::from_le_bytes([s0, s1]),
        length: usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX),
    })
}

/// Receives exactly `length` bytes, which the caller has bounded, before the deadline.
fn receive_body(transport: &dyn Transport, length: usize, deadline: Instant) -> Result<Vec<u8>, HelloError> {
    let mut body = vec![0; length];
    let mut done = 0;
    while done < length {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HelloError::Broken(io::ErrorKind::TimedOut.into()));
        }
        transport.set_receive_timeout(Some(left.max(Duration::from_millis(1))))?;
        match transport.receive(body.get_mut(done..).unwrap_or_default(), true) {
            // Nothing at all, or not all of it.
            Ok(0) if done == 0 => return Err(HelloError::Broken(io::ErrorKind::ConnectionAborted.into())),
            Ok(0) => return Err(HelloError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(body)
}
