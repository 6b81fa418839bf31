//! A vGPU's memory is exactly as large as asked, for one program and for two at once.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::node::Node;
use super::process::{PATIENCE, Running, run};
use super::programs::find;
use super::server::{Server, library_directory, own_card};

/// Sizes that no page size divides are sizes too.
const ODD_BYTES: u64 = 300_000_001;

fn exact_on_a_worker() -> Result<(), Failed> {
    for bytes in [ODD_BYTES, 512 << 20] {
        let server = Server::tcp(&bytes.to_string())?;
        let mut command = find("vram_limit", "host")?.append_to(|program| server.client(program));
        command.arg(bytes.to_string());
        run(command, PATIENCE)?.success()?;
    }
    Ok(())
}

fn exact_on_a_node() -> Result<(), Failed> {
    let node = Node::start()?;
    let mut command = find("vram_limit", "host")?.append_to(|program| node.run(&["--vram", "777MiB"], program));
    command.arg((777u64 << 20).to_string());
    run(command, PATIENCE)?.success()?;
    Ok(())
}

fn two_tenants_at_once() -> Result<(), Failed> {
    let node = Node::start()?;
    let mut tenants = Vec::new();
    for (vram, seed) in [(600u64 << 20, 17), (700 << 20, 99)] {
        let mut command =
            find("tenant", "static-ptx")?.append_to(|program| node.run(&["--vram", &vram.to_string()], program));
        command.args([vram.to_string(), seed.to_string()]);
        tenants.push(Running::start(command)?);
    }
    for tenant in tenants {
        tenant.finish(PATIENCE)?.success()?;
    }
    Ok(())
}

fn software_gpu_alone() -> Result<(), Failed> {
    let mut command = Command::new(find("vram_limit", "host")?.file);
    command.arg(ODD_BYTES.to_string());
    command.env("LD_LIBRARY_PATH", library_directory()).env("TENSOR_FUSION_SOFT_VRAM", ODD_BYTES.to_string());
    own_card(&mut command);
    run(command, PATIENCE)?.success()?;
    Ok(())
}

/// The cases.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the limit of a worker is exact", exact_on_a_worker),
        Trial::test("the limit of a node's vGPU is exact", exact_on_a_node),
        Trial::test("two tenants at once have their own limits and results", two_tenants_at_once),
        Trial::test("the software GPU has the memory that it is given", software_gpu_alone),
    ]
}
