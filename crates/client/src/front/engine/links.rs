//! `cuLink*`: several PTX inputs become one image.
//!
//! There is no machine code to link: the "cubin" that comes out is PTX text, which our loader takes. The inputs follow one
//! another, each under the newest version and target of all, so that it stays a unit whose hidden names are its own. Of the device
//! runtime, which programs link as a library of machine code, we have a part as PTX.

use std::fmt::Write as _;

use cuda::{CuError, CuResult};
use parking_lot::Mutex;

use super::{Engine, JitOptions};

/// `CU_JIT_INPUT_CUBIN`, `_PTX`, `_FATBINARY`.
const CUBIN: u32 = 0;
const PTX: u32 = 1;
const FATBINARY: u32 = 2;
/// `CU_JIT_INPUT_LIBRARY`.
const LIBRARY: u32 = 4;

/// What an archive begins with, and the name of the device runtime's member.
const ARCHIVE: (&[u8], &[u8]) = (b"!<arch>\n", b"cuda_device_runtime");
const DEVICE_RUNTIME: &str = include_str!("device_runtime.ptx");

/// A link that has been begun.
#[derive(Debug)]
pub struct Link {
    options: JitOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<String>,
    /// Kept until the link is destroyed: the program may use it until then.
    result: Option<Vec<u8>>,
}

impl Engine {
    /// Begins a link.
    ///
    /// # Errors
    /// None yet; as all calls that make something.
    pub fn link_create(&self, options: JitOptions) -> CuResult<u64> {
        Ok(self.links.insert(std::sync::Arc::new(Link { options, state: Mutex::default() })))
    }

    /// The link of a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn link(&self, handle: u64) -> CuResult<std::sync::Arc<Link>> {
        self.links.get(handle).ok_or(CuError::INVALID_HANDLE)
    }

    /// Adds an input.
    ///
    /// # Errors
    /// `INVALID_VALUE` for an unknown kind, `INVALID_PTX` for what is no PTX text, `NO_BINARY_FOR_GPU` for machine code.
    pub fn link_add(&self, link: &Link, kind: u32, name: &str, data: &[u8]) -> CuResult {
        if kind == LIBRARY && is_device_runtime(data) {
            link.state.lock().inputs.push(DEVICE_RUNTIME.to_owned());
            return Ok(());
        }
        let data = data.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(data).ok().filter(|text| text.contains(".version"));
        let refuse = |error: CuError, why: &str| {
            link.options.report(&format!("{name}: {why}"), true, 0.0)?;
            Err(error)
        };
        match (kind, text) {
            (CUBIN | PTX, Some(text)) => {
                link.state.lock().inputs.push(text.to_owned());
                Ok(())
            }
            (PTX, None) => refuse(CuError::INVALID_PTX, "not PTX text: there is no `.version`"),
            (CUBIN, None) | (FATBINARY, _) => {
                refuse(CuError::NO_BINARY_FOR_GPU, "machine code cannot be linked: pass PTX instead")
            }
            (3..=6, _) => refuse(CuError::NOT_SUPPORTED, "only PTX and the device runtime can be linked"),
            _ => Err(CuError::INVALID_VALUE),
        }
    }

    /// Finishes a link; returns address and length of the image, which stays until the link is destroyed.
    ///
    /// # Errors
    /// `INVALID_VALUE` without inputs, or why the result cannot be loaded.
    pub fn link_complete(&self, link: &Link) -> CuResult<(u64, u64)> {
        let mut state = link.state.lock();
        if state.inputs.is_empty() {
            return Err(CuError::INVALID_VALUE);
        }
        let mut image = join(&state.inputs).into_bytes();
        image.push(0);
        // Compiling it once, for the messages; a context is current whenever a program links.
        let life = self.current()?;
        let module = self.load_module(&life, image.get(..image.len() - 1).unwrap_or(&image), &link.options, false)?;
        self.unload_module(&module)?;
        let result = state.result.insert(image);
        Ok((result.as_ptr() as u64, result.len() as u64))
    }

    /// Ends a link.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn link_destroy(&self, handle: u64) -> CuResult {
        self.links.remove(handle).map(drop).ok_or(CuError::INVALID_HANDLE)
    }
}

/// One text out of several.
fn join(inputs: &[String]) -> String {
    let version = inputs.iter().filter_map(|input| header(input, ".version")).max_by_key(|version| {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        (major.parse().unwrap_or(0_u32), minor.parse().unwrap_or(0_u32))
    });
    let target = inputs
        .iter()
        .filter_map(|input| header(input, ".target"))
        .max_by_key(|target| target.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0_u32));
    if inputs.len() == 1 {
        return inputs.first().cloned().unwrap_or_default();
    }
    let mut header = String::new();
    for (directive, value) in [(".version", version), (".target", target), (".address_size", Some("64"))] {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            writeln!(header, "{directive} {value}").unwrap_or_default();
        }
    }
    let mut text = String::new();
    let mut declared = std::collections::HashSet::new();
    for input in inputs {
        text.push_str(&header);
        for line in input.lines() {
            let word = line.split_whitespace().next().unwrap_or_default();
            let is_header = matches!(word, ".version" | ".target" | ".address_size");
            // The same `.extern` declaration in two inputs is one declaration.
            let again = word == ".extern" && line.trim_end().ends_with(';') && !declared.insert(line.trim().to_owned());
            if !is_header && !again {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Whether an archive is the device runtime: it has a member of that name.
fn is_device_runtime(data: &[u8]) -> bool {
    let (magic, member) = ARCHIVE;
    data.starts_with(magic) && data.windows(member.len()).any(|name| name == member)
}

fn header<'a>(text: &'a str, directive: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(directive)?;
        rest.split("//").next().map(str::trim)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_texts_have_the_same_header() {
        let first = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry a() { ret; }\n";
        let second = ".version 8.3\n.target sm_80, debug\n.address_size 64\n.visible .entry b() { ret; }\n";
        let joined = join(&[first.to_owned(), second.to_owned()]);
        let header = ".version 8.3\n.target sm_80, debug\n.address_size 64\n";
        assert!(
            joined.starts_with(header)
                && joined.matches(header).count() == 2
                && joined.matches(".version").count() == 2
        );
        assert!(joined.contains("entry a") && joined.contains("entry b"));
    }

    #[test]
    fn the_device_runtime_is_known_by_its_member() {
        assert!(is_device_runtime(b"!<arch>\n/               0\ncuda_device_runtime.o/ 0"));
        assert!(!is_device_runtime(b"!<arch>\nother.o/ 0") && !is_device_runtime(b"cuda_device_runtime"));
    }
}
