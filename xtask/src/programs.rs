//! The test programs: what each file says about itself, and how it is compiled.
//!
//! A program is one file in `tests/programs/` (plus `NAME.*.cu` beside it as further translation units). Its opening
//! comment says in `builds:` how it is compiled and in `paths:` on which ways to the GPU the tests run it. The outcome is
//! `target/programs/NAME.BUILD` and a list of all, `target/programs/programs.json`, which the end-to-end tests read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::setup::Toolkits;
use crate::workspace::{describe, files, path, say};

/// Flags of every `nvcc` call.
const COMMON: &[&str] = &["-O2", "-std=c++17", "-Wno-deprecated-gpu-targets"];
/// PTX alone, as a program ships that is to run on any GPU.
const PTX: &[&str] = &["-arch=compute_75", "-code=compute_75"];
/// PTX that may use what GPUs have since Ampere.
const PTX80: &[&str] = &["-arch=compute_80", "-code=compute_80"];
/// Machine code for one GPU and PTX, `nvcc`'s usual output.
const SASS_AND_PTX: &[&str] = &["-arch=sm_80"];
/// Machine code alone.
const SASS: &[&str] = &["-gencode", "arch=compute_80,code=sm_80"];

/// One compiled program, as the list shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Built {
    /// The file's name without its ending.
    name: String,
    /// How it was compiled.
    build: String,
    /// The executable, or the Python file.
    file: PathBuf,
    /// Directories with shared libraries that it needs.
    libraries: Vec<PathBuf>,
    /// Ways to the GPU on which the general tests run it.
    paths: Vec<String>,
    /// What it must print, lines in any order.
    expected: Option<PathBuf>,
}

/// What a file says about itself.
struct Source {
    name: String,
    units: Vec<PathBuf>,
    builds: Vec<String>,
    paths: Vec<String>,
}

/// Compiles what has changed of the tests, the benchmarks and the examples, and writes the list of the tests' programs.
pub(crate) fn build_all(toolkits: &Toolkits) -> anyhow::Result<()> {
    let output = path("target/programs");
    fs::create_dir_all(&output)?;
    let mut jobs = Vec::new();
    for directory in ["benches", "examples"] {
        plan(toolkits, &path(directory), &output, &mut jobs)?;
    }
    let list = plan(toolkits, &path("tests/programs"), &output, &mut jobs)?;
    compile(&jobs)?;
    fs::write(output.join("programs.json"), serde_json::to_string_pretty(&list)?)?;
    say(&format!("{} test programs are ready in target/programs", list.len()));
    Ok(())
}

/// Lists the programs of a directory, and the commands that compile them.
fn plan(
    toolkits: &Toolkits,
    directory: &Path,
    output: &Path,
    jobs: &mut Vec<(Command, PathBuf)>,
) -> anyhow::Result<Vec<Built>> {
    let mut list = Vec::new();
    for source in sources(directory)? {
        for build in &source.builds {
            let mut libraries = Vec::new();
            let file = match build.as_str() {
                "python" => source.units.first().cloned().context("a program without a file")?,
                _ => {
                    let file = output.join(format!("{}.{build}", source.name));
                    jobs.push((compiler(toolkits, &source, build, &file)?, file.clone()));
                    file
                }
            };
            match build.split('-').next() {
                Some("shared") => libraries.push(toolkits.cuda13.join("lib")),
                Some("cuda12") => libraries.push(toolkits.cuda12.join("lib")),
                _ => {}
            }
            let expected = Some(directory.join(format!("{}.expected", source.name))).filter(|file| file.exists());
            list.push(Built {
                name: source.name.clone(),
                build: build.clone(),
                file,
                libraries,
                paths: source.paths.clone(),
                expected,
            });
        }
    }
    Ok(list)
}

fn sources(directory: &Path) -> anyhow::Result<Vec<Source>> {
    let is_program = |file: &Path| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.matches('.').count() == 1 && [".cu", ".c", ".cpp", ".py"].iter().any(|ending| name.ends_with(ending))
    };
    let mut sources = Vec::new();
    for file in files(directory, &is_program)? {
        let text = fs::read_to_string(&file)?;
        let words = |key: &str| -> Vec<String> {
            let line = text.lines().take(40).find_map(|line| {
                line.trim_start_matches(['/', '#', ' ']).strip_prefix(key).and_then(|rest| rest.strip_prefix(':'))
            });
            line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let more = files(directory, &|other| {
            let other = other.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            other.starts_with(&format!("{name}.")) && other.ends_with(".cu") && other.matches('.').count() == 2
        })?;
        let builds = words("builds");
        if builds.is_empty() {
            bail!("`{}` does not say `builds:`", file.display());
        }
        let units = std::iter::once(file).chain(more).collect();
        sources.push(Source { name, units, builds, paths: words("paths") });
    }
    Ok(sources)
}

/// The command that compiles a program in one way.
fn compiler(toolkits: &Toolkits, source: &Source, build: &str, file: &Path) -> anyhow::Result<Command> {
    let cuda12 = build.starts_with("cuda12");
    let toolkit = if cuda12 { &toolkits.cuda12 } else { &toolkits.cuda13 };
    if let Some(flags) = build.strip_prefix("host") {
        let mut command = Command::new(if flags == "-cpp" { "g++" } else { "gcc" });
        command.args(["-O2", "-Wall", "-Wextra", "-pthread"]).arg(format!("-I{}", toolkit.join("include").display()));
        command.args(&source.units).arg("-o").arg(file).arg("-ldl").arg("-lm");
        return Ok(command);
    }
    let (runtime, code) = build.rsplit_once('-').with_context(|| format!("`{build}` is no way to compile"))?;
    let mut command = Command::new(toolkit.join("bin/nvcc"));
    command.args(COMMON);
    command.args(match code {
        "ptx" => PTX,
        "ptx80" => PTX80,
        "sass" => SASS_AND_PTX,
        "sassonly" => SASS,
        _ => bail!("`{build}` names no code: expected -ptx, -ptx80, -sass or -sassonly"),
    });
    command.args(["-cudart", if runtime == "static" { "static" } else { "shared" }]);
    if source.name.ends_with("_ptds") {
        command.args(["--default-stream", "per-thread"]);
    }
    command.arg(format!("-L{}", toolkit.join("lib").display())).args(&source.units).arg("-o").arg(file);
    Ok(command)
}

/// Runs the compilers, two at a time, where a program is older than what it is made of.
fn compile(jobs: &[(Command, PathBuf)]) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (command, file) in jobs {
        let stamp = PathBuf::from(format!("{}.stamp", file.display()));
        let state = fingerprint(command)?;
        if !file.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&state) {
            stale.push((command, file, stamp, state));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    say(&format!("compiling {} test programs", stale.len()));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((command, file, stamp, state)) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut again = Command::new(command.get_program());
                    let outcome = again.args(command.get_args()).output();
                    let problem = match outcome {
                        Ok(output) if output.status.success() => fs::write(stamp, state).err().map(|e| e.to_string()),
                        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
                        Err(error) => Some(error.to_string()),
                    };
                    if let Some(problem) = problem
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(format!("{}:\n{}\n{problem}", file.display(), describe(command)));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        bail!("{} programs do not compile:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// Everything that a compiler's output depends on: its command line and the text of its inputs.
pub(crate) fn fingerprint(command: &Command) -> anyhow::Result<String> {
    let mut state = describe(command);
    for argument in command.get_args() {
        let file = Path::new(argument);
        let input = file.extension().is_some_and(|ending| ["cu", "c", "cpp"].iter().any(|input| ending == *input));
        if input && file.is_file() {
            state.push('\n');
            state.push_str(&fs::read_to_string(file)?);
        }
    }
    for header in ["check.h", "driver.h"] {
        if state.contains(&format!("{header}\"")) {
            state.push_str(&fs::read_to_string(path("tests/programs").join(header)).unwrap_or_default());
        }
    }
    Ok(state)
}
