//! The table that people know.

use crate::nvml::{Gpu, Machine, Process};

const RULE: &str = "+-----------------------------------------+------------------------+----------------------+\n";
const CLOSE: &str = "+-----------------------------------------------------------------------------------------+\n";

/// Draws it.
pub(crate) fn draw(machine: &Machine) -> String {
    let mut text = format!("{}\n{CLOSE}", crate::nvml::timestamp());
    let head =
        format!("NVIDIA-SMI (Tensor Fusion)    Driver Version: {:<15} CUDA Version: {}", machine.driver, machine.cuda);
    text.push_str(&format!("| {head:<87} |\n{RULE}"));
    text.push_str("| GPU  Name                               | Bus-Id                 | GPU-Util  Compute M. |\n");
    text.push_str("|                                         |           Memory-Usage |                      |\n");
    text.push_str(&RULE.replace('-', "="));
    for gpu in &machine.gpus {
        text.push_str(&rows(gpu));
        text.push_str(RULE);
    }
    text.push_str(&format!("\n{CLOSE}| {:<87} |\n", "Processes:"));
    text.push_str(&format!("| {:>3} {:>12}  {:<50} {:>17}  |\n", "GPU", "PID", "Process name", "GPU Memory"));
    text.push_str(&CLOSE.replace('-', "="));
    let mut lines = 0;
    for gpu in &machine.gpus {
        for Process { pid, name, used } in &gpu.processes {
            let used = format!("{}MiB", used >> 20);
            text.push_str(&format!("| {:>3} {pid:>12}  {:<50} {used:>17}  |\n", gpu.index, cut(name, 50)));
            lines += 1;
        }
    }
    if lines == 0 {
        text.push_str(&format!("| {:<87} |\n", "No running processes found"));
    }
    text + CLOSE
}

fn rows(gpu: &Gpu) -> String {
    let busy = gpu.busy.map_or("N/A".to_owned(), |(kernels, _)| format!("{kernels}%"));
    let memory = format!("{}MiB / {}MiB", gpu.used >> 20, gpu.total >> 20);
    format!(
        "| {:>3}  {:<34} | {:<22} | {busy:>8}     Default |\n|{:41}| {memory:>22} |{:22}|\n",
        gpu.index,
        cut(&gpu.name, 34),
        gpu.bus_id,
        "",
        ""
    )
}

/// The last characters matter in a path; elsewhere a cut shows that something is missing.
fn cut(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let last: String = text.chars().skip(length - (most - 3)).collect();
    format!("...{last}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::tests::machine;

    #[test]
    fn every_line_is_as_wide_as_the_others_and_says_what_is_used() {
        let text = draw(&machine());
        let lines: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
        for line in &lines {
            assert_eq!(line.chars().count(), CLOSE.trim_end().len(), "{line}");
        }
        assert!(text.contains("300MiB / 4096MiB"), "{text}");
        assert!(text.contains("python3"), "{text}");
        let mut idle = machine();
        idle.gpus.remove(0);
        assert!(draw(&idle).contains("No running processes found"));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("/usr/bin/python3", 10), "...python3");
    }
}
