//! The bare network of this machine: what the CUDA path is measured against.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::median;

/// A small message there and back on one connection of this machine, in microseconds. Both ends look for it without
/// sleeping, as ours do: otherwise the time would be the scheduler's and not the connection's.
pub(super) fn ping_pong() -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        peer.set_nodelay(true)?;
        peer.set_nonblocking(true)?;
        let mut message = [0; 24];
        while spin_to_read(&mut peer, &mut message).is_ok() {
            peer.write_all(&message)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut message = [7; 24];
    let mut times = Vec::with_capacity(4000);
    for _ in 0..4000 {
        let start = Instant::now();
        stream.write_all(&message)?;
        spin_to_read(&mut stream, &mut message)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    drop(stream);
    echo.join().map_err(|_| anyhow::anyhow!("the echo died"))??;
    Ok(median(&mut times))
}

fn spin_to_read(stream: &mut TcpStream, mut message: &mut [u8]) -> std::io::Result<()> {
    use std::io::ErrorKind;
    while !message.is_empty() {
        match stream.read(message) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => message = &mut message[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes through one connection of this machine from memory to memory, in GB/s.
pub(super) fn stream() -> anyhow::Result<f64> {
    const BYTES: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sink = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        let mut memory = vec![0; BYTES];
        while peer.read_exact(&mut memory).is_ok() {
            peer.write_all(&[1])?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    let data = vec![7; BYTES];
    let mut rates = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        for chunk in data.chunks(1 << 20) {
            stream.write_all(chunk)?;
        }
        stream.read_exact(&mut [0])?;
        rates.push(BYTES as f64 / start.elapsed().as_secs_f64() * 1e-9);
    }
    drop(stream);
    sink.join().map_err(|_| anyhow::anyhow!("the sink died"))??;
    Ok(median(&mut rates))
}
