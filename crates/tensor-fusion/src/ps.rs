//! `tensor-fusion ps`: the vGPUs of this machine's node and the processes on them.

use clap::Args;
use types::{Vgpu, VgpuState};

use crate::{failure::Outcome, folder::Folder, node::Node, print};

/// Show vGPUs and the processes on them.
///
/// One line per process; a vGPU that no process uses has one line with what asked for it.
#[derive(Debug, Args)]
pub(crate) struct Ps {}

impl Ps {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let vgpus: Vec<Vgpu> = match Node::running(&Folder::open()?) {
            Some((node, _)) => node.get("/v1/vgpus")?,
            None => Vec::new(),
        };
        if json {
            return Ok(print::json(&vgpus)?);
        }
        Ok(print::text(&table(&vgpus, print::now()))?)
    }
}

fn table(vgpus: &[Vgpu], now: u64) -> String {
    let head = ["VGPU", "GPU", "PID", "PROGRAM", "VRAM USED", "OF", "TFLOPS", "STATE", "WORKER", "SINCE"];
    let rows: Vec<Vec<String>> = vgpus.iter().flat_map(|vgpu| rows(vgpu, now)).collect();
    print::table(&head, &rows)
}

fn rows(vgpu: &Vgpu, now: u64) -> Vec<Vec<String>> {
    let lease = &vgpu.lease;
    let gpus: Vec<String> = lease.gpus.iter().map(u32::to_string).collect();
    let state = match (&vgpu.state, &vgpu.failure) {
        (VgpuState::Failed, Some(reason)) => format!("failed: {reason}"),
        (state, _) => state.to_string(),
    };
    let row = |pid: u32, program: &str, used: types::Bytes| {
        vec![
            lease.id.to_string(),
            gpus.join(","),
            if pid == 0 { "-".to_owned() } else { pid.to_string() },
            if program.is_empty() { "-".to_owned() } else { program.to_owned() },
            used.to_string(),
            lease.vram.to_string(),
            lease.tflops.map_or_else(|| "-".to_owned(), |tflops| tflops.to_string()),
            state.clone(),
            vgpu.worker_pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            print::age(vgpu.since, now),
        ]
    };
    if vgpu.processes.is_empty() {
        return vec![row(vgpu.pid, &vgpu.program, vgpu.vram_used)];
    }
    vgpu.processes.iter().map(|process| row(process.pid, &process.program, process.vram_used)).collect()
}

#[cfg(test)]
mod tests {
    use types::{Bytes, Lease, Process, Qos, Vendor, VgpuId};

    use super::*;

    #[test]
    fn every_process_has_a_line_and_an_idle_vgpu_has_one_too() {
        let lease = Lease {
            id: VgpuId::numbered(3),
            connect: "tcp://127.0.0.1:1".to_owned(),
            vendor: Vendor::Software,
            gpus: vec![0, 1],
            vram: Bytes::from_gib(4),
            tflops: None,
            token: None,
        };
        let idle = Vgpu {
            lease,
            qos: Qos::Medium,
            state: VgpuState::Running,
            failure: None,
            worker_pid: Some(9),
            program: "python".to_owned(),
            pid: 7,
            since: 100,
            vram_used: Bytes::ZERO,
            processes: Vec::new(),
        };
        let process = |pid| Process { pid, program: "python".to_owned(), vram_used: Bytes::from_mib(5) };
        let busy = Vgpu { processes: vec![process(8), process(10)], ..idle.clone() };
        let expected = "\
VGPU    GPU  PID  PROGRAM  VRAM USED  OF     TFLOPS  STATE    WORKER  SINCE
vgpu-3  0,1  7    python   0 B        4 GiB  -       running  9       5 s
vgpu-3  0,1  8    python   5 MiB      4 GiB  -       running  9       5 s
vgpu-3  0,1  10   python   5 MiB      4 GiB  -       running  9       5 s
";
        assert_eq!(table(&[idle.clone(), busy], 105), expected);
        let failed = Vgpu { state: VgpuState::Failed, failure: Some("gone".to_owned()), worker_pid: None, ..idle };
        assert!(table(&[failed], 105).contains("failed: gone  -"));
    }
}
