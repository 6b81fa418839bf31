//! Frames out of a stream of bytes.
//!
//! The buffer grows with what has arrived, never with what a frame promises, and a payload can be taken past the buffer
//! straight to where it belongs.

use std::io;
use std::time::{Duration, Instant};

use crate::frame::{FrameError, HEADER, Header};
use crate::transport::Transport;

/// Received at once when it is not known how much is coming: small enough that the start of a bulk payload, which is
/// copied twice, is a small part of it.
const GULP: usize = 64 << 10;

/// Whether to look for bytes for a while before sleeping, learned from how long the waits were.
///
/// On idle processors looking saves the wakeup, which costs more than a round trip over loopback. On busy ones it takes
/// the processor from the very process that is to answer. So both ways are tried, and the better one is kept.
#[derive(Debug)]
struct Patience {
    /// Mean microseconds of a wait: asleep at once, and looking first.
    waits: [f32; 2],
    count: u32,
}

/// How long to look.
const LOOKING: Duration = Duration::from_micros(50);
/// Longer waits say nothing about the way of waiting.
const LONGEST: f32 = 200.0;
/// One wait in so many goes the other way, to see whether that is better by now.
const TRIAL: u32 = 64;

impl Patience {
    fn new() -> Self {
        let lone = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) == 1;
        Self { waits: [0.0, if lone { f32::INFINITY } else { 0.0 }], count: 0 }
    }

    fn looks(&mut self) -> bool {
        self.count = self.count.wrapping_add(1);
        let [asleep, looking] = self.waits;
        (looking <= asleep) != (self.count.is_multiple_of(TRIAL) && looking.is_finite())
    }

    fn learn(&mut self, looked: bool, wait: Duration) {
        let wait = (wait.as_secs_f32() * 1e6).min(LONGEST);
        let [asleep, looking] = &mut self.waits;
        let mean = if looked { looking } else { asleep };
        *mean = if *mean == 0.0 { wait } else { *mean + (wait - *mean) / 4.0 };
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: u32,
    patience: Patience,
}

impl Inbox {
    /// An inbox which refuses frames with more payload than `limit`.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { buffer: vec![0; 2 * GULP], start: 0, end: 0, limit, patience: Patience::new() }
    }

    /// Waits for the next header and takes it.
    ///
    /// # Errors
    /// The connection is broken or closed (`UnexpectedEof`), or the frame is too long (`InvalidData`).
    pub fn header(&mut self, transport: &dyn Transport) -> io::Result<Header> {
        self.fill(transport, HEADER)?;
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(self.take(HEADER));
        let header = Header::from_bytes(bytes);
        if header.length > self.limit {
            return Err(FrameError::TooLong { length: header.length, limit: self.limit }.into());
        }
        Ok(header)
    }

    /// Waits for the next `length` bytes and takes them.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn payload(&mut self, transport: &dyn Transport, length: usize) -> io::Result<&[u8]> {
        self.fill(transport, length)?;
        Ok(self.take(length))
    }

    /// Waits for the next bytes and takes them past the buffer.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn payload_into(&mut self, transport: &dyn Transport, target: &mut [u8]) -> io::Result<()> {
        let here = (self.end - self.start).min(target.len());
        let (first, mut rest) = target.split_at_mut(here);
        first.copy_from_slice(self.take(here));
        while !rest.is_empty() {
            match transport.receive(rest, true)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => rest = rest.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Takes bytes that are there.
    fn take(&mut self, length: usize) -> &[u8] {
        let start = self.start;
        self.start += length;
        self.buffer.get(start..start + length).unwrap_or_default()
    }

    /// Makes `length` bytes lie in one piece from `start`.
    fn fill(&mut self, transport: &dyn Transport, length: usize) -> io::Result<()> {
        if self.end - self.start >= length {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // Only between frames: within one, the rest is on its way.
        let begun = (self.end == 0).then(Instant::now);
        let looks = begun.is_some() && self.patience.looks();
        let mut looking = begun.filter(|_| looks).map(|begun| begun + LOOKING);
        let mut first = begun;
        while self.end < length {
            // A payload that is longer than a gulp is received to its end and no further, so that the next frame starts
            // at the front and nothing big is moved.
            let goal = if length > GULP { length } else { GULP.max(length) };
            if self.buffer.len() < goal {
                // At most twice of what has really come.
                let size = goal.min(2 * self.buffer.len().max(GULP));
                if self.end == self.buffer.len() || size == goal {
                    self.buffer.resize(size, 0);
                }
            }
            let room = self.buffer.len().min(goal);
            let space = self.buffer.get_mut(self.end..room).unwrap_or_default();
            match transport.receive(space, looking.is_none()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.end += count;
                    if let Some(begun) = first.take() {
                        self.patience.learn(looks, begun.elapsed());
                    }
                    looking = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && looking.is_some() => {
                    if looking.is_some_and(|until| Instant::now() >= until) {
                        looking = None;
                    }
                    std::hint::spin_loop();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use std::io::IoSlice;
    use std::sync::Mutex;

    /// Gives its bytes in portions of the given sizes, in turn.
    struct Script {
        bytes: Mutex<Vec<u8>>,
        portions: Mutex<Vec<usize>>,
    }

    impl Transport for Script {
        fn send(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn receive(&self, buffer: &mut [u8], _: bool) -> io::Result<usize> {
            let mut bytes = self.bytes.lock().unwrap();
            let mut portions = self.portions.lock().unwrap();
            portions.rotate_left(1);
            let count = buffer.len().min(bytes.len()).min(portions[0]);
            buffer[..count].copy_from_slice(&bytes[..count]);
            bytes.drain(..count);
            Ok(count)
        }
        fn set_receive_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
        fn shutdown(&self) {}
    }

    fn script(bytes: Vec<u8>, portions: &[usize]) -> Script {
        Script { bytes: Mutex::new(bytes), portions: Mutex::new(portions.to_vec()) }
    }

    #[test]
    fn frames_come_out_however_the_bytes_come_in() {
        let sizes = [0, 1, 15, 16, 17, 70_000, 3, 300_000, 131_072 - 16, 5];
        let mut bytes = Vec::new();
        for (id, size) in sizes.iter().enumerate() {
            frame::put(&mut bytes, 7, 0, id as u64, 0, |out| out.extend((0..*size).map(|n| (n + id) as u8)));
        }
        for portions in [&[1 << 20][..], &[1, 70_000], &[17, 3, 65_536], &[333]] {
            let transport = script(bytes.clone(), portions);
            let mut inbox = Inbox::new(1 << 20);
            for (id, size) in sizes.iter().enumerate() {
                let header = inbox.header(&transport).unwrap();
                assert_eq!((header.id, header.length as usize), (id as u64, *size));
                let mut target = vec![0; *size];
                if id % 2 == 0 {
                    target.copy_from_slice(inbox.payload(&transport, *size).unwrap());
                } else {
                    inbox.payload_into(&transport, &mut target).unwrap();
                }
                assert!(target.iter().enumerate().all(|(n, byte)| *byte == (n + id) as u8));
            }
            assert_eq!(inbox.header(&transport).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn the_better_way_of_waiting_is_kept_and_the_other_one_tried_again() {
        let mut patience = Patience::new();
        let waits = |patience: &mut Patience, asleep: u64, looking: u64| {
            let mut looked = 0;
            for _ in 0..1000 {
                let looks = patience.looks();
                looked += u32::from(looks);
                patience.learn(looks, Duration::from_micros(if looks { looking } else { asleep }));
            }
            looked
        };
        if patience.waits[1].is_finite() {
            assert!(waits(&mut patience, 20, 9) > 900);
            assert!(waits(&mut patience, 16, 120) < 200);
            assert!(waits(&mut patience, 20, 9) > 300);
        }
    }

    #[test]
    fn a_promise_allocates_nothing() {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, 7, 0, 1, (1 << 30) - 3, |out| out.extend_from_slice(b"abc"));
        let mut inbox = Inbox::new(u32::MAX);
        let transport = script(bytes.clone(), &[1 << 20]);
        let header = inbox.header(&transport).unwrap();
        assert!(inbox.payload(&transport, header.length as usize).is_err());
        assert!(inbox.buffer.capacity() <= 4 * GULP, "{}", inbox.buffer.capacity());
        let refused = Inbox::new(1 << 20).header(&script(bytes, &[1 << 20])).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
