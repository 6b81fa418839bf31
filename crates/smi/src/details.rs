//! `-q`: what is known of each GPU, in NVIDIA's words.

use crate::nvml::{Machine, timestamp};

fn line(depth: usize, name: &str, value: &str) -> String {
    let name = format!("{}{name}", "    ".repeat(depth));
    format!("{name:<50} : {value}\n")
}

/// Tells it.
pub(crate) fn tell(machine: &Machine) -> String {
    let mut text = "\n==============NVSMI LOG==============\n\n".to_owned();
    text.push_str(&line(0, "Timestamp", &timestamp()));
    text.push_str(&line(0, "Driver Version", &machine.driver));
    text.push_str(&line(0, "CUDA Version", &machine.cuda));
    text.push_str(&format!("\n{}", line(0, "Attached GPUs", &machine.count.to_string())));
    for gpu in &machine.gpus {
        let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
        text.push_str(&format!("GPU {}\n", gpu.bus_id));
        text.push_str(&line(1, "Product Name", &gpu.name));
        text.push_str(&line(1, "GPU UUID", &gpu.uuid));
        text.push_str(&line(1, "Compute Capability", &gpu.capability));
        text.push_str("    FB Memory Usage\n");
        text.push_str(&line(2, "Total", &mebibytes(gpu.total)));
        text.push_str(&line(2, "Used", &mebibytes(gpu.used)));
        text.push_str(&line(2, "Free", &mebibytes(gpu.total.saturating_sub(gpu.used))));
        text.push_str("    Utilization\n");
        let percent = |value: Option<u32>| value.map_or("N/A".to_owned(), |value| format!("{value} %"));
        text.push_str(&line(2, "GPU", &percent(gpu.busy.map(|(kernels, _)| kernels))));
        text.push_str(&line(2, "Memory", &percent(gpu.busy.map(|(_, memory)| memory))));
        if gpu.processes.is_empty() {
            text.push_str(&line(1, "Processes", "None"));
            continue;
        }
        text.push_str("    Processes\n");
        for process in &gpu.processes {
            text.push_str(&line(2, "Process ID", &process.pid.to_string()));
            text.push_str(&line(3, "Name", &process.name));
            text.push_str(&line(3, "Used GPU Memory", &mebibytes(process.used)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::nvml::tests::machine;

    #[test]
    fn memory_and_processes_are_told() {
        let text = super::tell(&machine());
        let value = |name: &str| {
            let line = text.lines().find(|line| line.trim().starts_with(name)).unwrap();
            line.split_once(" : ").unwrap().1.to_owned()
        };
        assert_eq!(
            (value("Total"), value("Used"), value("Process ID")),
            ("4096 MiB".into(), "300 MiB".into(), "12".into())
        );
        assert_eq!(value("Attached GPUs"), "2");
    }
}
