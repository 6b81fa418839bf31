//! A small `nvidia-smi` for containers with vGPUs: what people and scripts ask most, over NVML.
//!
//! `nvidia-smi` draws the table, `-L` lists, `-q` tells more, and `--query-gpu=FIELDS --format=csv` answers scripts.
//! It has few dependencies and asks little of the C library, for it runs in images that are not ours.

mod details;
mod nvml;
mod query;
mod table;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use nvml::Machine;

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Command {
    Table,
    List,
    Details,
    Query { fields: Vec<String>, of: query::Of, style: query::Style },
    Help,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    command: Command,
    /// Only this GPU, by index or UUID.
    id: Option<String>,
}

const HELP: &str = "\
Tensor Fusion's nvidia-smi: shows the vGPUs of this container.

  nvidia-smi                                            the table
  nvidia-smi -L                                         one line for each GPU
  nvidia-smi -q                                         more about each GPU
  nvidia-smi --query-gpu=FIELD,... --format=csv[,noheader][,nounits]
  nvidia-smi --query-compute-apps=FIELD,... --format=csv[,noheader][,nounits]
  -i ID, --id=ID                                        only the GPU of this index or UUID
";

/// Reads the command line.
fn parse(words: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut command, mut id, mut format) = (Command::Table, None, None);
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        let mut value = || value.clone().or_else(|| words.next()).ok_or(format!("`{name}` needs a value"));
        let query = |fields: String, of| Command::Query {
            fields: fields.split(',').map(|field| field.trim().to_owned()).collect(),
            of,
            style: query::Style::default(),
        };
        match name.as_str() {
            "-L" | "--list-gpus" => command = Command::List,
            "-q" | "--query" => command = Command::Details,
            "-h" | "--help" | "--version" => command = Command::Help,
            "-i" | "--id" => id = Some(value()?),
            "--query-gpu" => command = query(value()?, query::Of::Gpus),
            "--query-compute-apps" => command = query(value()?, query::Of::Processes),
            "--format" => format = Some(query::Style::parse(&value()?)?),
            _ => return Err(format!("`{name}` is not known: see `nvidia-smi --help`")),
        }
    }
    match (&mut command, format) {
        (Command::Query { style, .. }, Some(format)) => *style = format,
        (Command::Query { .. }, None) => return Err("`--query-...` needs `--format=csv`".to_owned()),
        (_, Some(_)) => return Err("`--format` needs `--query-gpu` or `--query-compute-apps`".to_owned()),
        (_, None) => {}
    }
    Ok(Wanted { command, id })
}

/// What is to be printed.
fn answer(wanted: &Wanted, look: impl FnOnce() -> Result<Machine, String>) -> Result<String, String> {
    if wanted.command == Command::Help {
        return Ok(HELP.to_owned());
    }
    let mut machine = look()?;
    if let Some(id) = &wanted.id {
        let named = |gpu: &nvml::Gpu| gpu.index.to_string() == *id || gpu.uuid.eq_ignore_ascii_case(id);
        machine.gpus.retain(named);
        if machine.gpus.is_empty() {
            return Err(format!("No devices were found: there is no GPU `{id}`"));
        }
    }
    match &wanted.command {
        Command::Table => Ok(table::draw(&machine)),
        Command::List => {
            let line = |gpu: &nvml::Gpu| format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.name, gpu.uuid);
            Ok(machine.gpus.iter().map(line).collect())
        }
        Command::Details => Ok(details::tell(&machine)),
        Command::Query { fields, of, style } => query::answer(&machine, fields, *of, *style),
        Command::Help => Ok(HELP.to_owned()),
    }
}

/// Lets our library say why it has no GPU to show: a number says little, and who asks `nvidia-smi` wants to know.
#[expect(unsafe_code, reason = "the environment is the whole process's")]
fn tell_why() {
    if std::env::var_os("TENSOR_FUSION_LOG").is_none() {
        // SAFETY: nothing has started a thread yet.
        unsafe { std::env::set_var("TENSOR_FUSION_LOG", "error") };
    }
}

/// Answers the command line on standard output.
#[must_use]
pub fn main() -> ExitCode {
    tell_why();
    let text = parse(std::env::args().skip(1)).and_then(|wanted| answer(&wanted, nvml::look));
    match text {
        // A reader that has seen enough is no failure of ours.
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("nvidia-smi: {error}");
            // NVIDIA's own answers 9 where no driver answers, 2 to wrong options; scripts ask for non-zero.
            ExitCode::from(if error.starts_with('`') { 2 } else { 9 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml::tests::machine;

    fn asked(line: &str) -> Result<String, String> {
        parse(line.split_whitespace().map(str::to_owned)).and_then(|wanted| answer(&wanted, || Ok(machine())))
    }

    #[test]
    fn gpus_are_listed_and_chosen_by_index_and_uuid() {
        let list = asked("-L").unwrap();
        assert_eq!(list, "GPU 0: A card (UUID: GPU-00aa)\nGPU 1: A card (UUID: GPU-01aa)\n");
        assert_eq!(asked("-L -i 1").unwrap(), "GPU 1: A card (UUID: GPU-01aa)\n");
        assert_eq!(asked("-L --id=gpu-00AA").unwrap(), "GPU 0: A card (UUID: GPU-00aa)\n");
        assert!(asked("-L -i 7").unwrap_err().contains("there is no GPU `7`"));
    }

    #[test]
    fn queries_are_answered_as_scripts_expect() {
        let query = "--query-gpu=index,memory.total,memory.used,utilization.gpu,name";
        assert_eq!(
            asked(&format!("{query} --format=csv -i 0")).unwrap(),
            "index, memory.total [MiB], memory.used [MiB], utilization.gpu [%], name\n0, 4096 MiB, 300 MiB, 7 %, A card\n"
        );
        assert_eq!(
            asked("--query-gpu memory.free,uuid --format csv,noheader,nounits").unwrap(),
            "3796, GPU-00aa\n4096, GPU-01aa\n"
        );
        assert_eq!(
            asked("--query-compute-apps=pid,used_memory,process_name --format=csv,noheader").unwrap(),
            "12, 300 MiB, python3\n"
        );
        assert_eq!(asked("--query-gpu=fan.speed --format=csv,noheader -i 0").unwrap(), "[N/A]\n");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(asked("--query-gpu=color --format=csv").unwrap_err().contains("Field \"color\" is not a valid field"));
        assert!(asked("--query-gpu=name").unwrap_err().contains("--format=csv"));
        assert!(asked("--query-gpu=name --format=xml").unwrap_err().contains("`xml`"));
        assert!(asked("--nonsense").unwrap_err().contains("`--nonsense` is not known"));
        assert!(asked("-i").unwrap_err().contains("`-i` needs a value"));
        assert!(asked("--help").unwrap().contains("--query-gpu"));
    }
}
