//! Just enough C to read declarations out of a preprocessed header.

use std::collections::BTreeMap;

/// One exported function.
#[derive(Debug)]
pub(super) struct Function {
    /// Symbol.
    pub(super) name: String,
    /// Arguments: name and C type as tokens.
    pub(super) arguments: Vec<(String, Vec<String>)>,
}

/// What a type name stands for.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    Enum,
    Alias(Vec<String>),
    Handle,
    Callback,
    Struct,
}

/// Functions and types of a header.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Functions by symbol.
    pub(super) functions: BTreeMap<String, Function>,
    types: BTreeMap<String, Type>,
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The position behind the bracket that closes the one at `open`.
fn close(tokens: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" | "{" | "[" => depth += 1,
            ")" | "}" | "]" => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

impl Header {
    /// Adds what a preprocessed header declares: functions that return `result`, and type names.
    pub(super) fn read(&mut self, text: &str, result: &str) {
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "typedef" {
                let mut end = at;
                while end < tokens.len() && tokens[end] != ";" {
                    end = if matches!(tokens[end].as_str(), "{" | "(" | "[") { close(&tokens, end) } else { end + 1 };
                }
                self.read_typedef(&tokens[at + 1..end]);
                at = end;
            } else if tokens[at] == result && at + 2 < tokens.len() && is_word(&tokens[at + 1]) && tokens[at + 2] == "("
            {
                let end = close(&tokens, at + 2);
                self.add_function(&tokens[at + 1], &tokens[at + 3..end - 1]);
                at = end;
            } else {
                at += 1;
            }
        }
    }

    /// Adds the functions that a header declares as types of pointers only (`PFN_name_vVERSION`).
    pub(super) fn read_pointers(&mut self, text: &str, result: &str) {
        let tokens = tokens(text);
        for (at, token) in tokens.iter().enumerate() {
            let Some(name) = token.strip_prefix("PFN_").and_then(|name| name.rsplit_once("_v")) else { continue };
            if at >= 4 && tokens[at - 4] == result && name.1.parse::<u32>().is_ok() && tokens[at + 1] == ")" {
                let end = close(&tokens, at + 2);
                self.add_function(name.0, &tokens[at + 3..end - 1]);
            }
        }
    }

    /// Adds a function with the tokens of its argument list.
    pub(super) fn add_function(&mut self, name: &str, tokens: &[String]) {
        let mut arguments = Vec::new();
        for (position, argument) in tokens.split(|token| token == ",").enumerate() {
            if argument.is_empty() || argument == ["void"] {
                continue;
            }
            let mut kind: Vec<String> = argument.to_vec();
            // An array argument is a pointer.
            let array = kind.iter().position(|token| token == "[");
            if let Some(bracket) = array {
                kind.truncate(bracket);
            }
            let named = kind.len() > 1 && kind.last().is_some_and(|token| is_word(token)) && !is_base(&kind);
            let name = if named { kind.pop().unwrap_or_default() } else { format!("argument{position}") };
            if array.is_some() {
                kind.push("*".to_owned());
            }
            arguments.push((name, kind));
        }
        self.functions.entry(name.to_owned()).or_insert_with(|| Function { name: name.to_owned(), arguments });
    }

    fn read_typedef(&mut self, tokens: &[String]) {
        let Some(name) = tokens.last().cloned() else { return };
        let kind = match tokens[0].as_str() {
            "enum" => Type::Enum,
            _ if tokens.contains(&"(".to_owned()) && !tokens.contains(&"{".to_owned()) => {
                // `ret (*Name)(…)`
                if let Some(star) = tokens.iter().position(|token| token == "*")
                    && let Some(name) = tokens.get(star + 1)
                {
                    self.types.insert(name.clone(), Type::Callback);
                }
                return;
            }
            "struct" | "union" if tokens.contains(&"{".to_owned()) => Type::Struct,
            "struct" | "union" if tokens.contains(&"*".to_owned()) => Type::Handle,
            "struct" | "union" => Type::Struct,
            _ => Type::Alias(tokens[..tokens.len() - 1].to_vec()),
        };
        self.types.insert(name, kind);
    }

    /// The arguments of a function in Rust's words.
    pub(super) fn arguments(&self, function: &Function) -> String {
        let texts: Vec<String> =
            function.arguments.iter().map(|(name, kind)| format!("{}: {}", snake(name), self.rust(kind))).collect();
        texts.join(", ")
    }

    fn rust(&self, kind: &[String]) -> String {
        let stars = kind.iter().position(|token| token == "*").unwrap_or(kind.len());
        let (base, pointers) = kind.split_at(stars);
        let mut constant = base.iter().any(|token| token == "const");
        let words: Vec<&str> = base
            .iter()
            .map(String::as_str)
            .filter(|word| !matches!(*word, "const" | "struct" | "union" | "enum"))
            .collect();
        let mut text = self.base(&words, !pointers.is_empty());
        for token in pointers {
            if token == "*" {
                text = format!("*{} {text}", if constant { "const" } else { "mut" });
                constant = false;
            } else if token == "const" {
                constant = true;
            }
        }
        text
    }

    fn base(&self, words: &[&str], pointed: bool) -> String {
        let number = match words {
            ["void"] => "c_void",
            ["char"] if pointed => "c_char",
            ["size_t"] => "usize",
            ["unsigned", "char"] | ["cuuint8_t"] => "u8",
            ["char" | "signed"] | ["signed", "char"] => "i8",
            ["unsigned", "short"] => "u16",
            ["short"] => "i16",
            ["unsigned", "int"] | ["unsigned"] | ["uint32_t"] => "u32",
            ["int"] | ["int32_t"] => "i32",
            ["unsigned", "long", "long"] | ["unsigned", "long"] | ["unsigned", "long", "int"] | ["uint64_t"] => "u64",
            ["long", "long"] | ["long"] | ["int64_t"] => "i64",
            ["float"] => "f32",
            ["double"] => "f64",
            _ => "",
        };
        if !number.is_empty() {
            return number.to_owned();
        }
        let name = words.last().copied().unwrap_or("c_void");
        match self.types.get(name) {
            Some(Type::Enum) => "u32".to_owned(),
            Some(Type::Alias(to)) => {
                let inner: Vec<&str> = to.iter().map(String::as_str).collect();
                if inner.contains(&"*") {
                    return name.to_owned();
                }
                let resolved = self.base(&inner, pointed);
                // An alias of a structure keeps its own, current name; of a number it is the number.
                let other = inner.last().copied().unwrap_or_default();
                let ends = self.end_of(other);
                if ends == Some(Type::Struct) { name.to_owned() } else { resolved }
            }
            _ => name.to_owned(),
        }
    }

    /// What a chain of aliases ends in, when not in a number.
    fn end_of(&self, name: &str) -> Option<Type> {
        match self.types.get(name)? {
            Type::Alias(to) => self.end_of(to.last()?),
            other => Some(other.clone()),
        }
    }
}

/// Whether the tokens are a type without a name behind it, like `unsigned int`.
fn is_base(kind: &[String]) -> bool {
    let word = kind.last().map(String::as_str).unwrap_or_default();
    matches!(word, "int" | "long" | "char" | "short" | "float" | "double" | "void" | "unsigned" | "const")
}

/// `ByteCount` and `hStream` as Rust writes names.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut previous = '_';
    let characters: Vec<char> = name.chars().collect();
    for (at, &c) in characters.iter().enumerate() {
        let next_is_lower = characters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase()
            && previous != '_'
            && (previous.is_ascii_lowercase()
                || previous.is_ascii_digit()
                || (next_is_lower && previous.is_ascii_uppercase()))
        {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        previous = c;
    }
    let out = out.trim_start_matches('_').to_owned();
    match out.as_str() {
        "type" | "priv" | "ref" | "mod" | "loop" | "in" | "fn" => format!("{out}_"),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str, name: &str) -> String {
        let mut header = Header::default();
        header.read(text, "CUresult");
        header.arguments(&header.functions[name])
    }

    #[test]
    fn declarations_become_rust_arguments() {
        let text = "
            typedef struct CUctx_st *CUcontext;
            typedef enum CUlimit_enum { A = 0, B = (1 << 2) } CUlimit;
            typedef unsigned long long CUdeviceptr_v2; typedef CUdeviceptr_v2 CUdeviceptr;
            CUresult cuFirst(CUcontext *pctx, unsigned int Flags, CUlimit limit, const void *srcHost);
            CUresult __attribute__((x)) other(void);
            CUresult cuSecond(CUdeviceptr *dptr, size_t ByteCount, const char * const *names, int values[3]);
        ";
        assert_eq!(arguments(text, "cuFirst"), "pctx: *mut CUcontext, flags: u32, limit: u32, src_host: *const c_void");
        assert_eq!(
            arguments(text, "cuSecond"),
            "dptr: *mut u64, byte_count: usize, names: *const *const c_char, values: *mut i32"
        );
    }

    #[test]
    fn a_structure_keeps_its_current_name() {
        let text = "
            typedef struct CUDA_COPY_st { size_t width; void (*f)(int); } CUDA_COPY_v2; typedef CUDA_COPY_v2 CUDA_COPY;
            CUresult cuCopy(const CUDA_COPY *pCopy, CUdevice unknown);
        ";
        assert_eq!(arguments(text, "cuCopy"), "p_copy: *const CUDA_COPY, unknown: CUdevice");
    }

    #[test]
    fn names_are_written_as_in_rust() {
        let names = ["ByteCount", "hStream", "pciBusId", "pCUDAVersion", "type", "gridDimX", "__n"].map(snake);
        assert_eq!(names, ["byte_count", "h_stream", "pci_bus_id", "p_cuda_version", "type_", "grid_dim_x", "n"]);
    }
}
