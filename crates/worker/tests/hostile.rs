//! Whatever comes over the wire ends at worst its own session.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::types::Token;
use common::*;
use cuda::*;
use proptest::prelude::*;
use wire::calls::{NAMES, opcode};
use wire::encoding::Argument;
use wire::frame::{self, Header};
use wire::hello::{Hello, greet};
use wire::transport::{Socket, Transport, send_all};
use wire::{ConnectError, Endpoint, Remote};
use worker::Worker;

/// A connection to the worker's port without any manners.
fn raw(worker: &Worker) -> TcpStream {
    let Endpoint::Tcp { host, port } = worker.endpoint() else { panic!("not TCP") };
    let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// A connection after its handshake.
fn greeted(worker: &Worker) -> Socket {
    let socket = worker.endpoint().connect(Duration::from_secs(5)).unwrap();
    greet(&socket, &Hello::new().unwrap(), Duration::from_secs(5)).unwrap();
    socket
}

fn send(socket: &Socket, bytes: &[u8]) {
    // The worker may close while we still send.
    send_all(socket, &mut [IoSlice::new(bytes)]).ok();
}

/// Waits until the worker closes; what it said before that.
fn until_closed(socket: &Socket) -> Vec<u8> {
    socket.set_receive_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut all, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        match socket.receive(&mut buffer, true) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the worker does not close"),
            Err(_) => return all,
        }
    }
}

fn refusal(result: Result<Remote, ConnectError>) -> String {
    let error = result.unwrap_err();
    std::error::Error::source(&error).unwrap().to_string()
}

#[test]
fn garbage_closes_its_connection_and_disturbs_nobody() {
    let worker = start(&tcp(), config(1 << 30));
    let good = client(&worker);
    let mut http = raw(&worker);
    http.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset counts as closed: the rest of the request was not read.
    http.read_to_end(&mut answer).ok();
    assert!(answer.is_empty());
    // A hello that promises 2^63 bytes.
    let mut huge = raw(&worker);
    let mut bytes = b"TNSRFUSN\x01\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&(1_u64 << 63).to_le_bytes());
    huge.write_all(&bytes).unwrap();
    huge.read_to_end(&mut answer).ok();
    assert!(String::from_utf8_lossy(&answer).contains("malformed"));
    // A command that promises as much as its header can.
    let socket = greeted(&worker);
    send(&socket, &Header { length: u32::MAX, opcode: opcode::launch, flags: 0, id: 1 }.to_bytes());
    assert!(until_closed(&socket).is_empty());
    good.stream_synchronize(STREAM).unwrap();
    eventually("only the good session is left", || worker.sessions() == 1);
}

#[test]
fn another_version_and_another_table_are_refused_by_name() {
    let worker = start(&tcp(), config(1 << 30));
    let mut old = raw(&worker);
    old.write_all(b"TNSRFUSN\x63\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00").unwrap();
    let mut answer = Vec::new();
    old.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[20..]).into_owned();
    assert_eq!(text, "the client speaks protocol version 99, this worker speaks 1");
    let mut options = options();
    options.hello.calls ^= 1;
    let text = refusal(Remote::connect(worker.endpoint(), &options, Arc::new(NoSink)));
    assert!(text.contains("different call tables: use the same build"), "{text}");
    client(&worker).stream_synchronize(STREAM).unwrap();
}

#[test]
fn a_client_says_what_is_wrong_with_its_worker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let answers: [&[u8]; 3] = [
        b"TNSRFUSN\x63\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
        b"TNSRFUSN\x01\x00\x06\x00\xff\xff\xff\xff\xff\xff\xff\xffcome back later",
    ];
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 20];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(answer).unwrap();
            // Closing with unread bytes would reset the connection before the answer is read.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    let connect = || Remote::connect(&endpoint, &options(), Arc::new(NoSink));
    assert!(refusal(connect()).contains("it speaks protocol version 99, we speak 1"));
    assert!(refusal(connect()).contains("does not speak Tensor Fusion's protocol"));
    assert!(refusal(connect()).contains("ended during the handshake"));
    let nobody = "tcp://127.0.0.1:1".parse().unwrap();
    let error = Remote::connect(&nobody, &options(), Arc::new(NoSink)).unwrap_err();
    assert_eq!(error.to_string(), "cannot reach a worker at `tcp://127.0.0.1:1`");
}

#[test]
fn the_token_and_the_number_of_sessions_are_checked() {
    let mut config = config(1 << 30);
    config.token = Some(Token::shown("sesame".to_owned()));
    config.max_sessions = 2;
    let worker = start(&tcp(), config);
    let connect = |token: Option<&str>| {
        let mut options = options();
        options.hello.token = token.map(|token| Token::shown(token.to_owned()));
        Remote::connect(worker.endpoint(), &options, Arc::new(NoSink))
    };
    for token in [None, Some(""), Some("sesamf"), Some("sesame2")] {
        assert!(refusal(connect(token)).contains("the token is missing or wrong"));
    }
    let one = connect(Some("sesame")).unwrap();
    let _two = connect(Some("sesame")).unwrap();
    assert!(refusal(connect(Some("sesame"))).contains("already serves 2 sessions"));
    drop(one);
    eventually("a place is free", || worker.sessions() == 1);
    connect(Some("sesame")).unwrap();
}

#[test]
fn a_gpu_that_cannot_be_opened_is_a_refusal() {
    let worker = start(&tcp(), worker::WorkerConfig::new(1, |_, _| Err(CuError::NO_DEVICE)));
    let text = refusal(Remote::connect(worker.endpoint(), &options(), Arc::new(NoSink)));
    assert!(text.contains("CUDA_ERROR_NO_DEVICE (100)"), "{text}");
    let worker = start(&tcp(), worker::WorkerConfig::new(1, |_, _| panic!("the driver's library is broken")));
    assert!(Remote::connect(worker.endpoint(), &options(), Arc::new(NoSink)).is_err());
    eventually("nothing is left", || worker.sessions() == 0);
}

#[test]
fn silent_connections_are_closed_and_keep_nobody_out() {
    let mut config = config(1 << 30);
    config.handshake_timeout = Duration::from_millis(300);
    let worker = start(&tcp(), config);
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = (0..100).map(|_| raw(&worker)).collect();
    client(&worker).stream_synchronize(STREAM).unwrap();
    for stream in &mut silent {
        // Half a hello is no better than none.
        stream.write_all(b"TNSR").ok();
        stream.read_to_end(&mut Vec::new()).ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn malformed_commands_end_their_session_only() {
    let worker = start(&tcp(), config(1 << 30));
    let good = client(&worker);
    let frame = |opcode: u16, flags: u16, payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, opcode, flags, 1, 0, |out| out.extend_from_slice(payload));
        bytes
    };
    let interleaved = [frame(opcode::module_load, frame::MORE, &[1, 2]), frame(opcode::context_limit, 0, &[1, 1, 1])];
    let cases = [
        frame(NAMES.len() as u16, 0, &[]),
        frame(0xffff, 0, &[]),
        frame(opcode::launch, 0, &[1, 2, 3]),
        frame(opcode::context_limit, 0, &[1, 1, 1, 1]),
        frame(opcode::context_limit, 2, &[1, 1]),
        frame(opcode::launch, frame::MORE, &[1]),
        frame(frame::CALLBACK_DONE, 0, &[1, 2]),
        frame(frame::ANSWER, 0, &[0; 8]),
        interleaved.concat(),
    ];
    for case in cases {
        let socket = greeted(&worker);
        send(&socket, &case);
        assert!(until_closed(&socket).is_empty(), "{case:x?}");
    }
    good.stream_synchronize(STREAM).unwrap();
    eventually("only the good session is left", || worker.sessions() == 1);
}

#[test]
fn a_copy_with_other_bytes_than_its_region_is_refused() {
    let worker = start(&tcp(), config(1 << 30));
    let socket = greeted(&worker);
    let mut bytes = Vec::new();
    frame::put(&mut bytes, opcode::copy_to_device, 0, 1, 0, |out| {
        STREAM.put(out);
        Region::linear(BASE, 1 << 40).put(out);
        (&[1_u8, 2][..]).put(out);
    });
    frame::put(&mut bytes, opcode::context_limit, 0, 2, 0, |out| {
        CONTEXT.put(out);
        0_u32.put(out);
    });
    send(&socket, &bytes);
    let mut answer = [0; 24];
    socket.set_receive_timeout(Some(Duration::from_secs(5))).unwrap();
    wire::Inbox::new(1 << 20).payload_into(&socket, &mut answer).unwrap();
    let header = Header::from_bytes(answer[..16].try_into().unwrap());
    assert_eq!((header.opcode, header.id), (frame::ANSWER, 2));
    // Its own status is fine, the error of the copy comes beside it.
    assert_eq!(answer[16..24], [0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_panic_in_a_driver_ends_its_session_only() {
    let worker = start(&tcp(), config(1 << 30));
    let (good, bad) = (client(&worker), client(&worker));
    bad.mem_map(DEVICE, BASE, 1000).unwrap();
    launch(&bad, PANIC, &[]).unwrap();
    assert_eq!(bad.stream_synchronize(STREAM), Err(CuError::DEVICE_UNAVAILABLE));
    good.stream_synchronize(STREAM).unwrap();
    eventually("its memory is free", || worker.sessions() == 1 && worker.used() == 4096);
}

#[test]
fn when_the_worker_goes_every_call_fails_soon() {
    for endpoint in [tcp(), unix()] {
        let worker = start(&endpoint, config(1 << 30));
        let remote = client(&worker);
        remote.mem_map(DEVICE, BASE, 64 << 20).unwrap();
        launch(&remote, SLEEP, &6000_u32.to_le_bytes()).unwrap();
        let begun = Instant::now();
        let lost = Err(CuError::DEVICE_UNAVAILABLE);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(remote.stream_synchronize(STREAM), lost));
            scope.spawn(|| assert_eq!(remote.context_synchronize(CONTEXT), lost));
            scope.spawn(|| {
                let bytes = vec![1; 32 << 20];
                while write(&remote, BASE, &bytes).is_ok() {}
            });
            scope.spawn(|| {
                let mut bytes = vec![1; 1 << 20];
                assert_eq!(read(&remote, BASE, &mut bytes), lost);
            });
            std::thread::sleep(Duration::from_millis(100));
            drop(worker);
        });
        assert!(begun.elapsed() < Duration::from_millis(5000), "{:?}", begun.elapsed());
        assert_eq!(remote.stream_query(STREAM), Err(CuError::DEVICE_UNAVAILABLE));
        assert_eq!(launch(&remote, NOTHING, &[]), lost);
        assert_eq!(remote.usage(DEVICE).map(drop), lost);
        assert_eq!(remote.mem_unmap(DEVICE, BASE), lost);
        let mut later = [0; 8];
        assert_eq!(remote.copy_to_host(STREAM, buffer(&mut later), Region::linear(BASE, 8), false), lost);
    }
}

#[test]
fn when_a_client_goes_in_the_middle_its_memory_is_free() {
    let worker = start(&tcp(), config(1 << 30));
    let good = client(&worker);
    for cut in [1, 20, 100_000] {
        let socket = greeted(&worker);
        let mut bytes = Vec::new();
        let mut id = 0;
        let mut put = |opcode: u16, payload: &dyn Fn(&mut Vec<u8>)| {
            id += 1;
            frame::put(&mut bytes, opcode, 0, id, 0, payload);
        };
        put(opcode::context_create, &|out| (CONTEXT.put(out), DEVICE.put(out), 0_u32.put(out)).2);
        put(opcode::stream_create, &|out| {
            CONTEXT.put(out);
            STREAM.put(out);
            StreamKind::NonBlocking.put(out);
            0_i32.put(out);
        });
        put(opcode::mem_map, &|out| (DEVICE.put(out), BASE.put(out), 500_000_000_u64.put(out)).2);
        let whole = bytes.len();
        frame::put(&mut bytes, opcode::copy_to_device, 0, 9, 0, |out| {
            STREAM.put(out);
            Region::linear(BASE, 1 << 20).put(out);
            (&vec![1_u8; 1 << 20][..]).put(out);
        });
        send(&socket, &bytes[..whole + cut]);
        eventually("it is charged", || worker.used() == 500_000_000 + 4096);
        drop(socket);
        eventually("it is free again", || worker.used() == 4096 && worker.sessions() == 1);
    }
    good.mem_map(DEVICE, BASE, (1 << 30) - 4096).unwrap();
}

#[test]
fn more_waiting_calls_than_threads_are_all_answered() {
    let worker = start(&tcp(), config(1 << 30));
    let socket = greeted(&worker);
    let mut bytes = Vec::new();
    frame::put(&mut bytes, opcode::context_create, 0, 1, 0, |out| {
        (CONTEXT.put(out), DEVICE.put(out), 0_u32.put(out)).2
    });
    frame::put(&mut bytes, opcode::stream_create, 0, 2, 0, |out| {
        (CONTEXT.put(out), STREAM.put(out), StreamKind::NonBlocking.put(out), 0_i32.put(out)).3
    });
    frame::put(&mut bytes, opcode::module_load, 0, 3, 0, |out| (CONTEXT.put(out), MODULE.put(out), IMAGE.put(out)).2);
    frame::put(&mut bytes, opcode::launch, 0, 4, 0, |out| {
        (STREAM.put(out), function(SLEEP).put(out), shape(1).put(out), (&200_u32.to_le_bytes()[..]).put(out)).3
    });
    for id in 5..1505 {
        frame::put(&mut bytes, opcode::stream_synchronize, 0, id, 0, |out| STREAM.put(out));
    }
    send(&socket, &bytes);
    let mut inbox = wire::Inbox::new(1 << 20);
    let mut answered = vec![false; 1505];
    for _ in 0..1501 {
        let header = inbox.header(&socket).unwrap();
        let payload = inbox.payload(&socket, header.length as usize).unwrap();
        assert!(payload.starts_with(&[0; 8]));
        assert!(!std::mem::replace(&mut answered[header.id as usize], true));
    }
    drop(socket);
    eventually("the session is gone", || worker.sessions() == 0);
}

#[derive(Debug, Clone)]
struct Junk {
    frames: Vec<(u16, u16, Vec<u8>)>,
    flips: Vec<(usize, u8)>,
    cut: usize,
}

fn junk() -> impl Strategy<Value = Junk> {
    let opcodes = prop_oneof![8 => 0..NAMES.len() as u16, 1 => Just(frame::COPY_TO_HOST), 1 => any::<u16>()];
    let flags = prop_oneof![9 => Just(0_u16), 1 => Just(frame::MORE)];
    // Small numbers, so that ids meet and arguments are often well-formed.
    let bytes = prop::collection::vec(prop_oneof![6 => 0..4_u8, 1 => any::<u8>()], 0..24);
    let frames = prop::collection::vec((opcodes, flags, bytes), 0..40);
    let flips = prop::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    (frames, flips, any::<usize>()).prop_map(|(frames, flips, cut)| Junk { frames, flips, cut })
}

#[test]
fn junk_never_crashes_or_wedges_the_worker() {
    let worker = start(&tcp(), config(1 << 26));
    let good = client(&worker);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let result = runner.run(&junk(), |junk| {
        let mut bytes = Vec::new();
        // A session that has something to break.
        frame::put(&mut bytes, opcode::context_create, 0, 1, 0, |out| out.extend_from_slice(&[1, 0, 0]));
        frame::put(&mut bytes, opcode::stream_create, 0, 2, 0, |out| out.extend_from_slice(&[1, 2, 2, 0]));
        frame::put(&mut bytes, opcode::module_load, 0, 3, 0, |out| {
            (CONTEXT.put(out), MODULE.put(out), IMAGE.put(out)).2
        });
        for (id, (opcode, flags, payload)) in junk.frames.iter().enumerate() {
            frame::put(&mut bytes, *opcode, *flags, id as u64 + 4, 0, |out| out.extend_from_slice(payload));
        }
        for (at, value) in &junk.flips {
            let at = at % bytes.len();
            bytes[at] ^= value;
        }
        bytes.truncate(bytes.len() - junk.cut % 30);
        let socket = greeted(&worker);
        send(&socket, &bytes);
        drop(socket);
        prop_assert_eq!(good.stream_synchronize(STREAM), Ok(()));
        Ok(())
    });
    result.unwrap();
    eventually("nothing of them is left", || worker.sessions() == 1 && worker.used() == 4096);
}
