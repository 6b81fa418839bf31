//! How bytes travel. Small on purpose: TLS and shared memory are further implementations.
//!
//! Sending and receiving are independent of each other: one thread may be blocked in either while another does the
//! other. Two bulk copies in opposite directions depend on that.
#![expect(unsafe_code, reason = "recv and send with flags need system calls that the standard library has not")]

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// A reliable, ordered connection.
pub trait Transport: Send + Sync {
    /// Sends from the start of the parts, as much as fits; waits until something does.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Receives what is there, at most the buffer's length. 0 means that the peer has closed. Without `wait`, nothing
    /// there is `WouldBlock`.
    ///
    /// # Errors
    /// The connection is broken, or `WouldBlock`.
    fn receive(&self, buffer: &mut [u8], wait: bool) -> io::Result<usize>;

    /// Lets a waiting `receive` fail with `WouldBlock` after a while; `None` waits for ever.
    ///
    /// # Errors
    /// The operating system's.
    fn set_receive_timeout(&self, patience: Option<Duration>) -> io::Result<()>;

    /// How long the peer's machine has not acknowledged what it was sent; `None` when nothing is outstanding. A peer that
    /// is only slow acknowledges. `None` as well where the operating system notices a lost peer by itself.
    fn unacknowledged(&self) -> Option<Duration> {
        None
    }

    /// Ends both directions, so that whoever waits in the other two methods comes back.
    fn shutdown(&self);
}

/// A peer that has not acknowledged anything for so long is gone. (An idle connection is probed by the operating system;
/// TCP_USER_TIMEOUT would do for a busy one, but it also ends connections whose peer is alive and slow to read.)
const LOST: Duration = Duration::from_secs(30);

/// How often to look for lost peers.
pub const LOOK_FOR_LOST: Duration = Duration::from_secs(5);

/// Ends a connection whose peer is gone.
pub fn end_if_lost(transport: &dyn Transport) {
    if let Some(time) = transport.unacknowledged().filter(|time| *time >= LOST) {
        tracing::warn!(seconds = time.as_secs(), "the peer acknowledges nothing: the connection is given up");
        transport.shutdown();
    }
}

/// Kernel buffers for bulk data. Linux caps them by `net.core.[rw]mem_max`.
const BUFFER: usize = 4 << 20;

/// A TCP or Unix stream socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Takes over a TCP connection: no delay, and a silent peer is noticed within half a minute.
    ///
    /// # Errors
    /// The operating system's.
    pub fn from_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        set_probes(&stream, 3)?;
        // TCP sizes its buffers by itself, beyond what we may ask for: leave them alone.
        Ok(Self { fd: stream.into() })
    }

    /// Takes over a Unix connection.
    ///
    /// # Errors
    /// The operating system's.
    pub fn from_unix(stream: UnixStream) -> io::Result<Self> {
        let socket = SockRef::from(&stream);
        socket.set_send_buffer_size(BUFFER)?;
        socket.set_recv_buffer_size(BUFFER)?;
        Ok(Self { fd: stream.into() })
    }
}

impl Transport for Socket {
    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // MSG_NOSIGNAL: the process is not ours, and a broken connection must not kill it by SIGPIPE.
        retry(|| SockRef::from(&self.fd).send_vectored_with_flags(parts, libc::MSG_NOSIGNAL))
    }

    fn receive(&self, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        retry(|| {
            // SAFETY: the buffer is writable for its whole length while the call runs.
            let count = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        })
    }

    fn set_receive_timeout(&self, patience: Option<Duration>) -> io::Result<()> {
        SockRef::from(&self.fd).set_read_timeout(patience)
    }

    fn unacknowledged(&self) -> Option<Duration> {
        // SAFETY: the struct is plain numbers, and zeros are valid.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
        let place = (&raw mut info).cast();
        // SAFETY: the kernel writes at most `size` bytes, which is the struct's size, into a struct that lives on.
        let result =
            unsafe { libc::getsockopt(self.fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut size) };
        // A Unix socket has no such option, and needs none: the end of its peer is seen at once.
        let outstanding = result == 0 && info.tcpi_unacked > 0;
        outstanding.then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }

    fn shutdown(&self) {
        if let Err(error) = SockRef::from(&self.fd).shutdown(std::net::Shutdown::Both) {
            tracing::trace!(%error, "the connection had ended by itself");
        }
    }
}

/// How many unanswered probes make a connection broken.
fn set_probes(stream: &TcpStream, count: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const count).cast();
    // SAFETY: the option's value is a C int, which lives until the call returns.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_KEEPCNT, value, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends all the parts, one after the other.
///
/// # Errors
/// The connection is broken.
pub fn send_all(transport: &dyn Transport, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match transport.send(parts)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => IoSlice::advance_slices(&mut parts, sent),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_peer_acknowledges() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::from_tcp(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        let peer = listener.accept().unwrap().0;
        // More than fits, to a peer that reads nothing: it is slow, not lost.
        std::thread::scope(|scope| {
            scope.spawn(|| send_all(&client, &mut [IoSlice::new(&vec![1; 64 << 20])]).unwrap_err());
            std::thread::sleep(Duration::from_millis(100));
            assert!(client.unacknowledged().is_none_or(|time| time < Duration::from_secs(5)));
            client.shutdown();
        });
        drop(peer);
        let (one, other) = UnixStream::pair().unwrap();
        let one = Socket::from_unix(one).unwrap();
        send_all(&one, &mut [IoSlice::new(b"hello")]).unwrap();
        assert_eq!(one.unacknowledged(), None);
        drop(other);
        assert!(send_all(&one, &mut [IoSlice::new(b"hello")]).is_err());
    }
}
