//! `tensor-fusion gpu …`: the GPUs of a node.

use clap::{Args, Subcommand};
use types::{Bytes, Gpu as GpuInfo, Tflops};

use crate::{failure::Outcome, folder::Folder, node::Node, print};

/// Show GPUs.
#[derive(Debug, Subcommand)]
pub(crate) enum Gpu {
    #[command(visible_alias = "list")]
    Ls(Ls),
}

/// List the GPUs of this machine, and what is free on them.
#[derive(Debug, Args)]
pub(crate) struct Ls {}

impl Gpu {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let Self::Ls(Ls {}) = self;
        let gpus = match Node::running(&Folder::open()?) {
            Some((node, _)) => node.get("/v1/gpus")?,
            // Without a node nothing is allocated: looking is enough.
            None => looked_at()?,
        };
        if json {
            return Ok(print::json(&gpus)?);
        }
        Ok(print::text(&table(&gpus))?)
    }
}

fn looked_at() -> Result<Vec<GpuInfo>, crate::failure::Failed> {
    let driver = std::env::var("TENSOR_FUSION_DRIVER").ok().map(|text| text.parse());
    let devices = crate::up::find(driver.transpose()?.as_ref(), &[])?;
    let gpu = |(index, found): (u32, hypervisor::provider::Found)| GpuInfo {
        index,
        uuid: found.uuid,
        name: found.name,
        vendor: devices.vendor,
        compute_capability: found.compute_capability,
        numa_node: found.numa_node,
        vram: found.vram,
        vram_allocated: Bytes::ZERO,
        tflops: found.tflops,
        tflops_allocated: Tflops::ZERO,
        vgpus: 0,
    };
    Ok((0..).zip(devices.found).map(gpu).collect())
}

fn table(gpus: &[GpuInfo]) -> String {
    let row = |gpu: &GpuInfo| {
        let share = |free: Option<Tflops>| free.map_or_else(|| "-".to_owned(), |free| free.to_string());
        vec![
            gpu.index.to_string(),
            gpu.name.clone(),
            gpu.vendor.to_string(),
            gpu.compute_capability.to_string(),
            gpu.vram.to_string(),
            gpu.vram_free().to_string(),
            share(gpu.tflops),
            share(gpu.tflops_free()),
            gpu.vgpus.to_string(),
            gpu.uuid.clone(),
        ]
    };
    let head = ["GPU", "NAME", "KIND", "CC", "VRAM", "FREE", "TFLOPS", "FREE", "VGPUS", "UUID"];
    print::table(&head, &gpus.iter().map(row).collect::<Vec<_>>())
}
