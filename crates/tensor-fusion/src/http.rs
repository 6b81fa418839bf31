//! As much of an HTTP/1.1 client as talking to a node takes.
//!
//! `run` pays for every millisecond before a program's first CUDA call, so there is no async runtime and no pool here:
//! one connection, one request, one answer that is read as it comes.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use types::Token;

/// Where a node serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// On this machine.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.flush(),
            Self::Tcp(stream) => stream.flush(),
        }
    }
}

/// An answer whose body is read as it comes.
pub(crate) struct Answer {
    /// The status, 200 for example.
    pub(crate) status: u16,
    body: BufReader<Body>,
}

struct Body {
    stream: BufReader<Stream>,
    framing: Framing,
}

enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left in this chunk; `None` before the first.
    Chunked(Option<u64>),
    /// Until the peer hangs up.
    Close,
}

/// More than any header line of a node.
const LONGEST_LINE: u64 = 16 << 10;
/// More than any answer of a node but the endless ones.
const LONGEST_ANSWER: u64 = 64 << 20;

fn junk(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what answered is no node: {what}"))
}

fn line(stream: &mut BufReader<Stream>) -> io::Result<String> {
    let mut text = String::new();
    stream.take(LONGEST_LINE).read_line(&mut text)?;
    match text.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None if text.is_empty() => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer hung up")),
        None => Err(junk("an endless line")),
    }
}

/// Sends one request over a connection of its own.
pub(crate) fn send(
    address: &Address,
    token: Option<&Token>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<Answer> {
    let mut stream = match address {
        Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        Address::Tcp(host) => {
            let stream = connect(host)?;
            stream.set_nodelay(true)?;
            Stream::Tcp(stream)
        }
    };
    let host = match address {
        Address::Unix(_) => "node",
        Address::Tcp(host) => host,
    };
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    if let Some(token) = token {
        request.push_str(&format!("authorization: Bearer {}\r\n", token.reveal()));
    }
    if let Some(body) = body {
        request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());
    stream.write_all(request.as_bytes())?;
    read_head(BufReader::new(stream))
}

fn connect(host: &str) -> io::Result<TcpStream> {
    use std::net::ToSocketAddrs;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read_head(mut stream: BufReader<Stream>) -> io::Result<Answer> {
    let status = line(&mut stream)?;
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let code: u16 = code.ok_or_else(|| junk("it speaks another protocol"))?;
    let mut framing = Framing::Close;
    for _ in 0..128 {
        let header = line(&mut stream)?;
        if header.is_empty() {
            if code == 204 {
                framing = Framing::Length(0);
            }
            return Ok(Answer { status: code, body: BufReader::new(Body { stream, framing }) });
        }
        let (name, value) = header.split_once(':').ok_or_else(|| junk("a header without a name"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => framing = Framing::Length(value.parse().map_err(|_| junk("a length"))?),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => framing = Framing::Chunked(None),
            _ => {}
        }
    }
    Err(junk("too many headers"))
}

impl Read for Body {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = match &mut self.framing {
            Framing::Close => return self.stream.read(bytes),
            Framing::Length(left) => left,
            Framing::Chunked(left) => {
                if matches!(left, None | Some(0)) {
                    if left.is_some() {
                        line(&mut self.stream)?;
                    }
                    let size = line(&mut self.stream)?;
                    let size = size.split(';').next().unwrap_or_default().trim();
                    *left = Some(u64::from_str_radix(size, 16).map_err(|_| junk("a chunk"))?);
                }
                match left {
                    Some(0) | None => {
                        self.framing = Framing::Length(0);
                        return Ok(0);
                    }
                    Some(left) => left,
                }
            }
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        let Some(room) = bytes.get_mut(..most).filter(|room| !room.is_empty()) else { return Ok(0) };
        let read = self.stream.read(room)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut short"));
        }
        *left -= read as u64;
        Ok(read)
    }
}

impl Answer {
    /// The whole body.
    pub(crate) fn text(&mut self) -> io::Result<String> {
        let mut text = String::new();
        (&mut self.body).take(LONGEST_ANSWER).read_to_string(&mut text)?;
        Ok(text)
    }

    /// The next line of the body; `None` at its end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut text = String::new();
        let read = (&mut self.body).take(LONGEST_LINE).read_line(&mut text)?;
        Ok((read > 0).then_some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer that says `text` and hangs up is understood as.
    fn answer(text: &str) -> io::Result<(u16, String)> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(text.as_bytes()).unwrap();
        drop(theirs);
        let mut answer = read_head(BufReader::new(Stream::Unix(ours)))?;
        Ok((answer.status, answer.text()?))
    }

    #[test]
    fn every_framing_is_read() {
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixx").unwrap(), (200, "hi".to_owned()));
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(answer(chunked).unwrap(), (200, "abc0123456789".to_owned()));
        assert_eq!(answer("HTTP/1.0 404 Not Found\r\n\r\nall").unwrap(), (404, "all".to_owned()));
        assert_eq!(answer("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, String::new()));
    }

    #[test]
    fn junk_and_short_answers_are_errors() {
        for text in [
            "",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 2",
            "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        ] {
            assert!(answer(text).is_err(), "{text:?}");
        }
        assert!(answer(&"x".repeat(100_000)).is_err());
    }
}
