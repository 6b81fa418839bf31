//! The stand-in for `ptxas`: passes PTX through.
//!
//! Triton and others hand their PTX to `ptxas` and load what comes back. On a software GPU the PTX itself is what can
//! be run, so this program, called by the name `ptxas`, copies its input to where the result is expected.

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitCode,
};

/// As NVIDIA's says it: clients read the release from it, and choose the PTX version by it.
const VERSION: &str = "\
ptxas: Tensor Fusion's stand-in, which passes PTX through
Cuda compilation tools, release 13.0, V13.0.88
";

/// Options that take the next word as their value (ptxas --help); a value after `=` needs no list.
const WITH_VALUE: [&str; 8] =
    ["-o", "--output-file", "-arch", "--gpu-name", "-O", "--opt-level", "-maxrregcount", "--maxrregcount"];

struct Work {
    input: PathBuf,
    output: PathBuf,
}

pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    if words.iter().any(|word| word == "--version" || word == "-V") {
        return match std::io::stdout().write_all(VERSION.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let result = understand(&words).and_then(|work| {
        let copied = std::fs::copy(&work.input, &work.output);
        copied.map_err(|error| format!("`{}` to `{}`: {error}", work.input.display(), work.output.display()))
    });
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ptxas fatal   : {error}");
            ExitCode::FAILURE
        }
    }
}

fn understand(words: &[OsString]) -> Result<Work, String> {
    let mut input = None;
    let mut output = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if let Some(path) = bytes.strip_prefix(b"--output-file=").or_else(|| bytes.strip_prefix(b"-o=")) {
            output = Some(PathBuf::from(OsStr::from_bytes(path)));
        } else if let Some(option) = WITH_VALUE.iter().find(|option| word == *option) {
            let value = words.next().ok_or_else(|| format!("`{option}` has no value"))?;
            if matches!(*option, "-o" | "--output-file") {
                output = Some(PathBuf::from(value));
            }
        } else if !bytes.starts_with(b"-")
            && let Some(first) = input.replace(PathBuf::from(word))
        {
            let second = PathBuf::from(word);
            return Err(format!("expected one input, got `{}` and `{}`", first.display(), second.display()));
        }
    }
    let input = input.ok_or("no input was given: expected a file with PTX")?;
    let output = output.unwrap_or_else(|| PathBuf::from("elf.o"));
    Ok(Work { input, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(words: &[&str]) -> Result<(String, String), String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        understand(&words).map(|work| (work.input.display().to_string(), work.output.display().to_string()))
    }

    #[test]
    fn the_ways_that_clients_call_it_are_understood() {
        let triton = ["-lineinfo", "-v", "--gpu-name=sm_120a", "/tmp/a.ptx", "-o", "/tmp/a.cubin"];
        let expected = Ok(("/tmp/a.ptx".to_owned(), "/tmp/a.cubin".to_owned()));
        assert_eq!(understood(&triton), expected);
        assert_eq!(understood(&["/tmp/a.ptx", "--output-file=/tmp/a.cubin", "-arch", "sm_80", "-O", "3"]), expected);
        assert!(understood(&["-o", "/tmp/a.cubin"]).is_err());
        assert!(understood(&["a.ptx", "b.ptx"]).unwrap_err().contains("`a.ptx` and `b.ptx`"));
        assert!(understood(&["a.ptx", "-o"]).is_err());
    }
}
