//! Questions as the API server asks them: whole reviews over TLS and HTTP/1.1, on connections that stay open, at a steady rate
//! whatever the answers take.
//!
//! Each connection is a thread that writes a request made beforehand, reads its answer and sleeps until its next one is due.
//! Times count from when a request was *due*, so an answer that is late makes those late that had to wait for it. What the
//! client itself needs counts too: waking up, encrypting, decrypting.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::Failure;

const RATE: u32 = 1_000;
const SECONDS: u32 = 10;
/// As many as the API server would need if an answer took eight milliseconds.
const CONNECTIONS: u32 = 8;
/// The webhook answers within seconds, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long answers took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) median: Duration,
    /// The 99th percentile.
    pub(crate) most: Duration,
    pub(crate) longest: Duration,
    /// CPU time of the server for each.
    pub(crate) spent: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milli = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            to,
            "median {:.2} ms, 99th percentile {:.2} ms, longest {:.2} ms, {:.0} µs of the server's CPU time each",
            milli(self.median),
            milli(self.most),
            milli(self.longest),
            self.spent.as_secs_f64() * 1e6,
        )
    }
}

/// Whom to ask.
pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    /// Whom to trust, as PEM.
    pub(crate) authorities: Vec<u8>,
    /// Its process.
    pub(crate) process: u32,
}

impl Webhook {
    /// The times of answers to a path that there is not, and of answers about these pods, which all ask.
    pub(crate) fn time(&self, pods: &[Value]) -> Result<(Times, Times), Failure> {
        let reviews: Vec<Vec<u8>> =
            pods.iter().map(|pod| serde_json::to_vec(&review(pod))).collect::<Result<_, _>>()?;
        let requests = |path: &str| -> Arc<[Vec<u8>]> { reviews.iter().map(|body| request(path, body)).collect() };
        let (asking, nothing) = (requests("/mutate?timeout=10s"), requests("/nothing"));
        // Whatever is made on first use.
        self.ask(&asking, "\"patch\":", RATE)?;
        let empty = self.ask(&nothing, "404 Not Found", RATE * SECONDS)?;
        Ok((empty, self.ask(&asking, "\"patch\":", RATE * SECONDS)?))
    }

    fn ask(&self, requests: &Arc<[Vec<u8>]>, expected: &'static str, count: u32) -> Result<Times, Failure> {
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| self.connect()).collect::<Result<_, _>>()?;
        let (before, start) = (cpu_time(self.process)?, Instant::now() + Duration::from_millis(10));
        let threads = connections.into_iter().zip(0..CONNECTIONS).map(|(connection, number)| {
            let requests = Arc::clone(requests);
            std::thread::spawn(move || {
                talk(connection, &requests, expected, start, (number..count).step_by(CONNECTIONS as usize))
            })
        });
        let threads: Vec<_> = threads.collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a thread that asked died")??);
        }
        let spent = cpu_time(self.process)?.saturating_sub(before) / count;
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().ok_or("nobody was asked");
        Ok(Times { median: at(50)?, most: at(99)?, longest: at(100)?, spent })
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
        let mut roots = RootCertStore::empty();
        for one in CertificateDer::pem_slice_iter(&self.authorities) {
            roots.add(one?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::IpAddress(self.address.ip().into());
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

/// Asks what is due on one connection, and tells how long after it was due each was answered.
fn talk(
    mut stream: StreamOwned<ClientConnection, TcpStream>,
    requests: &[Vec<u8>],
    expected: &str,
    start: Instant,
    numbers: impl Iterator<Item = u32>,
) -> Result<Vec<Duration>, Failure> {
    let (mut times, mut answer) = (Vec::new(), Vec::new());
    for number in numbers {
        let due = start + Duration::from_secs(1) * number / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = requests.get(number as usize % requests.len()).ok_or("there is nothing to ask")?;
        stream.write_all(request)?;
        read(&mut stream, &mut answer)?;
        times.push(due.elapsed());
        if !std::str::from_utf8(&answer)?.contains(expected) {
            return Err(format!("a wrong answer: {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    Ok(times)
}

/// Reads one answer, whose length its head tells.
fn read(stream: &mut StreamOwned<ClientConnection, TcpStream>, answer: &mut Vec<u8>) -> Result<(), Failure> {
    let mut piece = [0; 16 << 10];
    answer.clear();
    loop {
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.ok_or("an answer without a length")?.parse()?;
            if answer.len() >= end + 4 + length {
                return Ok(());
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err("the webhook hung up".into()),
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: tensor-fusion-operator.tensor-fusion-system.svc:443\r\n\
         User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// All that the API server tells with a pod.
fn review(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "c7ab0b1c-6d0f-4c0f-9d3d-0a5b3b1f8f0e",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": pod.pointer("/metadata/name"), "namespace": pod.pointer("/metadata/namespace"), "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller", "uid": "5d1c3a2e-0b57-4c0e-8a0e-1f5b6f0a3d11",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=3c0a8f5e-76a0-4a8e-bb5e-7d3f9f2f6a21"]},
            },
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// CPU time of a process so far.
fn cpu_time(process: u32) -> Result<Duration, Failure> {
    // In the order of their numbers; the second field may hold spaces, but not behind its closing bracket.
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).ok_or("a process without times");
    // Hundredths of a second, whatever the machine, in this file.
    Ok(Duration::from_millis(10) * (ticks(11)? + ticks(12)?))
}
