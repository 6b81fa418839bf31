//! `--query-gpu` and `--query-compute-apps`: comma-separated values.

use crate::nvml::{Gpu, Machine, Process};

/// What is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Of {
    Gpus,
    Processes,
}

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Style {
    header: bool,
    units: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { header: true, units: true }
    }
}

impl Style {
    /// Reads `csv,noheader,nounits`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut style = Self::default();
        let mut csv = false;
        for word in text.split(',') {
            match word.trim() {
                "csv" => csv = true,
                "noheader" => style.header = false,
                "nounits" => style.units = false,
                other => return Err(format!("`{other}` is not a format: expected csv, noheader and nounits")),
            }
        }
        if csv { Ok(style) } else { Err(format!("`{text}` is not a format: expected csv")) }
    }
}

/// A value, and its unit where it has one.
struct Value(Option<String>, &'static str);

fn plain(text: impl ToString) -> Option<Value> {
    Some(Value(Some(text.to_string()), ""))
}

fn mebibytes(bytes: u64) -> Option<Value> {
    Some(Value(Some((bytes >> 20).to_string()), "MiB"))
}

/// What a vGPU does not have: scripts are answered as for a card without the sensor.
const ABSENT: [(&str, &str); 20] = [
    ("fan.speed", "%"),
    ("temperature.gpu", ""),
    ("temperature.memory", ""),
    ("power.draw", "W"),
    ("power.draw.instant", "W"),
    ("power.limit", "W"),
    ("enforced.power.limit", "W"),
    ("power.max_limit", "W"),
    ("clocks.sm", "MHz"),
    ("clocks.gr", "MHz"),
    ("clocks.mem", "MHz"),
    ("clocks.max.sm", "MHz"),
    ("clocks.max.mem", "MHz"),
    ("pcie.link.gen.current", ""),
    ("pcie.link.width.current", ""),
    ("vbios_version", ""),
    ("serial", ""),
    ("ecc.mode.current", ""),
    ("ecc.errors.uncorrected.volatile.total", ""),
    ("mig.mode.current", ""),
];

fn of_gpu(machine: &Machine, gpu: &Gpu, field: &str) -> Option<Value> {
    match field {
        "index" => plain(gpu.index),
        "count" => plain(machine.count),
        "name" | "gpu_name" => plain(&gpu.name),
        "uuid" | "gpu_uuid" => plain(&gpu.uuid),
        "driver_version" => plain(&machine.driver),
        "pci.bus_id" | "gpu_bus_id" => plain(&gpu.bus_id),
        "compute_cap" => plain(&gpu.capability),
        "memory.total" => mebibytes(gpu.total),
        "memory.used" => mebibytes(gpu.used),
        "memory.free" => mebibytes(gpu.total.saturating_sub(gpu.used)),
        "memory.reserved" => mebibytes(0),
        "utilization.gpu" => Some(Value(gpu.busy.map(|(kernels, _)| kernels.to_string()), "%")),
        "utilization.memory" => Some(Value(gpu.busy.map(|(_, memory)| memory.to_string()), "%")),
        "compute_mode" => plain("Default"),
        "persistence_mode" | "display_mode" | "display_active" | "accounting.mode" => plain("Disabled"),
        "pstate" => plain("P0"),
        "timestamp" => plain(crate::nvml::timestamp()),
        _ => ABSENT.iter().find(|(name, _)| *name == field).map(|(_, unit)| Value(None, unit)),
    }
}

fn of_process(gpu: &Gpu, process: &Process, field: &str) -> Option<Value> {
    match field {
        "pid" => plain(process.pid),
        "process_name" | "name" => plain(&process.name),
        "used_memory" | "used_gpu_memory" => mebibytes(process.used),
        "gpu_uuid" => plain(&gpu.uuid),
        "gpu_name" => plain(&gpu.name),
        "gpu_bus_id" => plain(&gpu.bus_id),
        _ => None,
    }
}

/// The lines for the fields.
pub(crate) fn answer(machine: &Machine, fields: &[String], of: Of, style: Style) -> Result<String, String> {
    let unknown = |field: &String| format!("Field \"{field}\" is not a valid field to query.");
    // So that a field is checked where nothing is listed, too.
    let (any_gpu, any_process) = (Gpu::default(), Process::default());
    let units = |field: &String| match of {
        Of::Gpus => of_gpu(machine, &any_gpu, field),
        Of::Processes => of_process(&any_gpu, &any_process, field),
    };
    let mut headers = Vec::new();
    for field in fields {
        let Value(_, unit) = units(field).ok_or_else(|| unknown(field))?;
        headers.push(if unit.is_empty() { field.clone() } else { format!("{field} [{unit}]") });
    }
    let write = |value: Option<Value>| match value {
        Some(Value(Some(text), unit)) if style.units && !unit.is_empty() => format!("{text} {unit}"),
        Some(Value(Some(text), _)) => text,
        _ => "[N/A]".to_owned(),
    };
    let mut lines = Vec::new();
    for gpu in &machine.gpus {
        match of {
            Of::Gpus => lines.push(fields.iter().map(|field| write(of_gpu(machine, gpu, field))).collect::<Vec<_>>()),
            Of::Processes => {
                lines.extend(gpu.processes.iter().map(|process| {
                    fields.iter().map(|field| write(of_process(gpu, process, field))).collect::<Vec<_>>()
                }))
            }
        }
    }
    if style.header {
        lines.insert(0, headers);
    }
    Ok(lines.into_iter().map(|line| line.join(", ") + "\n").collect())
}
