//! Where a worker listens: `tcp://HOST:PORT` or `unix:///path`.
//!
//! The same words are used on the command line, in `TENSOR_FUSION_CONNECT` and in what a worker prints, so that an
//! address can be handed on without being understood.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use socket2::SockRef;

use crate::transport::Socket;

/// The address of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// A name, an IPv4 address or an IPv6 address without its brackets.
        host: String,
        /// The port; 0 lets a listener choose.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its absolute path.
        path: PathBuf,
    },
}

/// Text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `tcp://` nor `unix://`.
    #[error("`{0}` is not an endpoint: expected tcp://HOST:PORT or unix:///PATH")]
    Scheme(String),
    /// The port is missing or is no number below 65536.
    #[error("`{0}` has no valid port: expected tcp://HOST:PORT with a port from 0 to 65535")]
    Port(String),
    /// The host is missing, or is an IPv6 address without brackets.
    #[error(
        "`{0}` has no valid host: expected tcp://HOST:PORT, with an IPv6 address in brackets as in tcp://[::1]:PORT"
    )]
    Host(String),
    /// The path is missing, relative, or too long for a socket.
    #[error("`{0}` has no valid path: expected unix:///PATH, absolute and at most 107 bytes long")]
    Path(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix://") {
            // 108 bytes of sun_path, one of them the terminating zero (unix(7)).
            if !path.starts_with('/') || path.len() < 2 || path.len() > 107 || path.contains('\0') {
                return Err(EndpointError::Path(text.to_owned()));
            }
            return Ok(Self::Unix { path: PathBuf::from(path) });
        }
        let Some(rest) = text.strip_prefix("tcp://") else { return Err(EndpointError::Scheme(text.to_owned())) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| EndpointError::Port(text.to_owned()))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(|| EndpointError::Port(text.to_owned()))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
            None => Some(host).filter(|host| !host.is_empty() && !host.contains(|c: char| "[]:/?#@ ".contains(c))),
        };
        let host = host.ok_or_else(|| EndpointError::Host(text.to_owned()))?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Endpoint {
    /// Connects, trying each address of a host name in turn.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answered within `patience`.
    pub fn connect(&self, patience: Duration) -> io::Result<Socket> {
        match self {
            Self::Unix { path } => Socket::from_unix(UnixStream::connect(path)?),
            Self::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, patience) {
                        Ok(stream) => return Socket::from_tcp(stream),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// Goes on with a socket that listens at this endpoint already, as one that was inherited.
    #[must_use]
    pub fn adopt(&self, socket: OwnedFd) -> Listener {
        match self {
            Self::Tcp { .. } => Listener::Tcp(socket.into()),
            Self::Unix { path } => Listener::Unix(socket.into(), path.clone()),
        }
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp { host, port } => Ok(Listener::Tcp(TcpListener::bind((host.as_str(), *port))?)),
            Self::Unix { path } => {
                // A socket file outlives its process. One that nobody answers on is a leftover.
                let leftover = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
                    && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                if leftover {
                    std::fs::remove_file(path)?;
                }
                Ok(Listener::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }
}

/// A listening endpoint. A Unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket, with its path.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// The endpoint that clients connect to, with the port that was chosen.
    ///
    /// # Errors
    /// The operating system's.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, path) => Ok(Endpoint::Unix { path: path.clone() }),
        }
    }

    /// Stops listening: whoever waits for a client gets an error.
    pub fn close(&self) {
        let result = match self {
            Self::Tcp(listener) => SockRef::from(listener).shutdown(Shutdown::Both),
            Self::Unix(listener, _) => SockRef::from(listener).shutdown(Shutdown::Both),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the listener was closed already");
        }
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// The operating system's; those of one connection do not concern the next.
    pub fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => Socket::from_tcp(listener.accept()?.0),
            Self::Unix(listener, _) => Socket::from_unix(listener.accept()?.0),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self
            && let Err(error) = std::fs::remove_file(&*path)
        {
            tracing::debug!(path = %path.display(), %error, "the socket file is already gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for text in
            ["tcp://127.0.0.1:9", "tcp://[::1]:45123", "tcp://gpu-3.example:0", "unix:///run/tensor fusion.sock"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://h:1/".parse::<Endpoint>().unwrap().to_string(), "tcp://h:1");
    }

    #[test]
    fn what_is_wrong_with_an_endpoint_is_said() {
        let error = |text: &str| text.parse::<Endpoint>().unwrap_err();
        assert!(matches!(error("http://h:1"), EndpointError::Scheme(_)));
        assert!(matches!(error("127.0.0.1:80"), EndpointError::Scheme(_)));
        for text in ["tcp://h", "tcp://h:", "tcp://h:65536", "tcp://h:+1", "tcp://h:x"] {
            assert!(matches!(error(text), EndpointError::Port(_)), "{text}");
        }
        for text in ["tcp://:1", "tcp://::1:1", "tcp://[::1:1", "tcp://[h]:1", "tcp://a b:1"] {
            assert!(matches!(error(text), EndpointError::Host(_)), "{text}");
        }
        for text in ["unix://", "unix:///", "unix://run/x", &format!("unix:///{}", "x".repeat(107))] {
            assert!(matches!(error(text), EndpointError::Path(_)), "{text}");
        }
    }

    #[test]
    fn a_leftover_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("tensor-fusion-endpoint-{}.sock", std::process::id()));
        let endpoint = Endpoint::Unix { path: path.clone() };
        drop(UnixListener::bind(&path).unwrap());
        let listener = endpoint.listen().unwrap();
        assert_eq!(endpoint.listen().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }
}
