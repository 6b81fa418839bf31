//! `tensor-fusion worker`: serves one vGPU. Plumbing that the node starts.
//!
//! Says where it listens in one line of JSON. With `--parent-stdin` it ends when its standard input closes, so it never
//! outlives its node, and answers each line `status` with one line of JSON.

use std::{
    io::{BufRead, stdin},
    net::TcpListener,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use hypervisor::{
    provider::{Driver, Found},
    worker::{Hello, Status},
};
use types::{Bytes, Capability, Tflops};

use crate::{
    failure::{Failed, Outcome},
    print, process,
};

/// Serve one vGPU.
#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// Where to listen: tcp://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "WHERE", default_value = "tcp://127.0.0.1:0")]
    listen: String,

    /// Memory of the vGPU on each of its GPUs [default: all of it]
    #[arg(long, value_name = "BYTES")]
    vram: Option<Bytes>,

    /// Compute of the vGPU on each of its GPUs in TFLOPS [default: no limit]
    #[arg(long, value_name = "TFLOPS")]
    tflops: Option<Tflops>,

    /// The driver's devices to serve, in order
    #[arg(long, value_name = "INDEX", value_delimiter = ',', default_value = "0")]
    gpu: Vec<u32>,

    /// What opens the GPU: `soft`, or the path of a `libcuda.so.1`
    #[arg(long, value_name = "DRIVER", default_value = "soft")]
    driver: Driver,

    /// Compute capability that a software GPU presents itself as
    #[arg(long, value_name = "CC")]
    cc: Option<Capability>,

    /// End when the standard input closes
    #[arg(long)]
    parent_stdin: bool,

    /// Print the driver's devices and end
    #[arg(long)]
    probe: bool,
}

impl Worker {
    pub(crate) fn main(self) -> Outcome {
        if self.probe {
            return Ok(print::json(&found(&self.driver)?)?);
        }
        let address = self.listen.strip_prefix("tcp://").ok_or_else(|| Failed::new("not yet"))?;
        let listener = TcpListener::bind(address).with_context(|| format!("`{}`", self.listen))?;
        let hello = Hello { listening: format!("tcp://{}", listener.local_addr()?) };
        print::text(&(serde_json::to_string(&hello)? + "\n"))?;
        if self.parent_stdin {
            std::thread::spawn(follow_parent);
        }
        for connection in listener.incoming() {
            drop(connection);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Answers the parent, and ends with it.
fn follow_parent() {
    let mut line = String::new();
    loop {
        line.clear();
        match stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => process::end_now(0),
            Ok(_) => {}
        }
        if line.trim() == "status" {
            let status = serde_json::to_string(&Status::default()).unwrap_or_default();
            if print::text(&(status + "\n")).is_err() {
                process::end_now(1);
            }
        }
    }
}

/// A driver's devices.
fn found(driver: &Driver) -> Result<Vec<Found>, Failed> {
    if *driver != Driver::Soft {
        return Err(Failed::new(format!("`{driver}` cannot be opened: vendors' drivers are not in this build")));
    }
    let found = Found {
        name: "Tensor Fusion Software GPU".to_owned(),
        uuid: "GPU-0".to_owned(),
        vram: Bytes::from_gib(8),
        tflops: Some(Tflops::new(20)),
        compute_capability: Capability { major: 12, minor: 0 },
    };
    Ok(vec![found])
}
