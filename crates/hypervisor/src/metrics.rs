//! The node's metrics in Prometheus' text format.
//!
//! Names are TensorFusion's measurements and fields, joined: dashboards made for those need no change.

use std::fmt::Write;

use types::{Gpu, Vgpu, VgpuState};

use crate::node::Counters;

struct Text(String);

impl Text {
    fn family(&mut self, kind: &str, name: &str, help: &str, rows: impl IntoIterator<Item = (String, f64)>) {
        let mut lines = String::new();
        for (labels, value) in rows {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            // Writing to a String cannot fail.
            writeln!(lines, "{name}{labels} {value}").unwrap_or_default();
        }
        if !lines.is_empty() {
            write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}").unwrap_or_default();
        }
    }
}

/// A label's value, quoted as the text format wants it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The metrics of a node.
#[must_use]
pub fn text(gpus: &[Gpu], vgpus: &[Vgpu], counters: Counters) -> String {
    let mut text = Text(String::new());
    gpu_families(&mut text, gpus);
    worker_families(&mut text, gpus, vgpus);
    let one = |value: u64| [(String::new(), value as f64)];
    text.family("gauge", "tf_node_metrics_gpu_count", "GPUs of the node.", one(gpus.len() as u64));
    text.family("gauge", "tf_system_metrics_total_workers_cnt", "vGPUs of the node.", one(vgpus.len() as u64));
    let success = "tf_system_metrics_total_allocation_success_cnt";
    text.family("counter", success, "Requests that were granted.", one(counters.granted));
    let fail = "tf_system_metrics_total_allocation_fail_cnt";
    text.family("counter", fail, "Requests that were refused or failed.", one(counters.refused));
    let died = "tf_system_metrics_total_worker_failure_cnt";
    text.family("counter", died, "Workers that ended by themselves.", one(counters.died));
    text.0
}

fn gpu_families(text: &mut Text, gpus: &[Gpu]) {
    let mut family = |field: &str, help: &str, value: &dyn Fn(&Gpu) -> Option<f64>| {
        let labels = |gpu: &Gpu| format!("gpu={},gpu_model={}", quoted(&gpu.uuid), quoted(&gpu.name));
        let rows = gpus.iter().filter_map(|gpu| Some((labels(gpu), value(gpu)?)));
        text.family("gauge", &format!("tf_gpu_metrics_{field}"), help, rows);
    };
    let bytes = |bytes: types::Bytes| Some(bytes.get() as f64);
    family("capacity_vram_bytes", "Memory of the GPU.", &|gpu| bytes(gpu.vram));
    family("allocated_vram_bytes", "Memory that vGPUs hold.", &|gpu| bytes(gpu.vram_allocated));
    family("available_vram_bytes", "Memory that no vGPU holds.", &|gpu| bytes(gpu.vram_free()));
    family("capacity_tflops", "Compute of the GPU.", &|gpu| gpu.tflops.map(|tflops| tflops.as_f64()));
    family("allocated_tflops", "Compute that vGPUs asked for.", &|gpu| Some(gpu.tflops_allocated.as_f64()));
    family("available_tflops", "Compute that no vGPU asked for.", &|gpu| gpu.tflops_free().map(|free| free.as_f64()));
}

fn worker_families(text: &mut Text, gpus: &[Gpu], vgpus: &[Vgpu]) {
    let labels = |vgpu: &Vgpu| {
        let uuid = |index: &u32| gpus.iter().find(|gpu| gpu.index == *index).map_or("", |gpu| gpu.uuid.as_str());
        let uuids: Vec<&str> = vgpu.lease.gpus.iter().map(uuid).collect();
        let (worker, qos) = (quoted(vgpu.lease.id.as_str()), quoted(&vgpu.qos.to_string()));
        format!("worker={worker},uuid={},qos={qos}", quoted(&uuids.join(",")))
    };
    let mut family = |name: &str, help: &str, value: &dyn Fn(&Vgpu) -> Option<f64>| {
        text.family("gauge", name, help, vgpus.iter().filter_map(|vgpu| Some((labels(vgpu), value(vgpu)?))));
    };
    let ready = |vgpu: &Vgpu| Some(f64::from(u8::from(vgpu.state == VgpuState::Running)));
    family("tf_worker_resources_ready", "Whether the vGPU can be used.", &ready);
    family("tf_worker_resources_gpu_count", "GPUs of the vGPU.", &|vgpu| Some(vgpu.lease.gpus.len() as f64));
    family("tf_worker_resources_vram_bytes_limit", "Memory of the vGPU on each of its GPUs.", &|vgpu| {
        Some(vgpu.lease.vram.get() as f64)
    });
    family("tf_worker_resources_tflops_limit", "Compute of the vGPU on each of its GPUs.", &|vgpu| {
        vgpu.lease.tflops.map(|tflops| tflops.as_f64())
    });
    family("tf_worker_usage_memory_bytes", "Memory in use on the vGPU.", &|vgpu| Some(vgpu.vram_used.get() as f64));
}

#[cfg(test)]
mod tests {
    use types::{Bytes, Capability, Tflops, Vendor};

    use super::*;

    #[test]
    fn families_have_a_type_and_labels_are_quoted() {
        let gpu = Gpu {
            index: 0,
            uuid: "GPU-0".to_owned(),
            name: "a \"good\" card".to_owned(),
            vendor: Vendor::Software,
            compute_capability: Capability { major: 12, minor: 0 },
            numa_node: None,
            vram: Bytes::from_gib(8),
            vram_allocated: Bytes::from_gib(2),
            tflops: None,
            tflops_allocated: Tflops::ZERO,
            vgpus: 1,
        };
        let text = text(&[gpu], &[], Counters { granted: 3, refused: 2, died: 1 });
        let row = "tf_gpu_metrics_available_vram_bytes{gpu=\"GPU-0\",gpu_model=\"a \\\"good\\\" card\"} 6442450944\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("# TYPE tf_system_metrics_total_allocation_fail_cnt counter\n"));
        assert!(text.contains("\ntf_system_metrics_total_allocation_fail_cnt 2\n"));
        assert!(!text.contains("capacity_tflops"), "what is not known is not reported");
        assert!(!text.contains("tf_worker_usage"), "no family without rows");
    }
}
