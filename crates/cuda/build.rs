//! Joins the facts of NVIDIA's headers (`table/cuda.txt`, `table/nvml.txt`, written by `cargo xtask table`) with the
//! columns that people write (`table/columns.txt`) into the macros and the list that `src/api.rs` includes.
//!
//! A name or an argument in the columns that the facts do not know stops the build: the two cannot drift apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const CLASSES: [&str; 5] = ["local", "cached", "one_way", "round_trip", "blocking"];

/// In place of a path: the export is written by hand, because its shape is like no other's.
const BY_HAND: &str = "by_hand";

struct Fact {
    version: String,
    arguments: Vec<(String, String)>,
}

struct Column {
    path: String,
    class: String,
    types: BTreeMap<String, String>,
}

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    println!("cargo::rerun-if-changed=table");
    let columns_text = std::fs::read_to_string("table/columns.txt")?;
    let (areas, columns) = read_columns(&columns_text)?;
    let mut out = String::new();
    let mut used = 0;
    for library in ["cuda", "nvml"] {
        let facts = read_facts(&std::fs::read_to_string(format!("table/{library}.txt"))?)?;
        used += write_library(&mut out, library, &facts, &columns, &areas)?;
        for symbol in columns.keys().filter(|symbol| symbol.starts_with(if library == "cuda" { "cu" } else { "nv" })) {
            if !facts.contains_key(symbol) {
                return Err(format!("table/columns.txt: `{symbol}` is not in table/{library}.txt").into());
            }
        }
    }
    if used != columns.len() {
        return Err(format!("table/columns.txt: {} rows belong to no library", columns.len() - used).into());
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("api.rs"), out)?;
    Ok(())
}

fn read_facts(text: &str) -> Result<BTreeMap<String, Fact>, Fault> {
    let mut facts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let (Some(symbol), Some(version)) = (parts.next(), parts.next()) else {
            return Err(format!("a fact without a version: `{line}`").into());
        };
        let arguments = parts.next().unwrap_or_default().split(", ").filter_map(|argument| argument.split_once(": "));
        let arguments = arguments.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        facts.insert(symbol.to_owned(), Fact { version: version.to_owned(), arguments });
    }
    Ok(facts)
}

type Areas = Vec<(String, String)>;

/// `area NAME: PREFIX…` lines and `SYMBOL = PATH CLASS [ARGUMENT=TYPE…]` lines.
fn read_columns(text: &str) -> Result<(Areas, BTreeMap<String, Column>), Fault> {
    let mut areas = Areas::new();
    let mut columns = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("table/columns.txt:{}", number + 1);
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(area) = line.strip_prefix("area ") {
            let (name, prefixes) = area.split_once(':').ok_or(format!("{place}: expected `area NAME: PREFIX…`"))?;
            areas.extend(prefixes.split_whitespace().map(|prefix| (prefix.to_owned(), name.trim().to_owned())));
            continue;
        }
        let (symbol, rest) = line.split_once(" = ").ok_or(format!("{place}: expected `SYMBOL = PATH CLASS`"))?;
        let mut words = rest.split_whitespace();
        let (Some(path), Some(class)) = (words.next(), words.next()) else {
            return Err(format!("{place}: expected `SYMBOL = PATH CLASS`").into());
        };
        if !CLASSES.contains(&class) {
            return Err(format!("{place}: `{class}` is not a class: expected one of {CLASSES:?}").into());
        }
        let mut types = BTreeMap::new();
        for word in words {
            let (argument, kind) =
                word.split_once('=').ok_or(format!("{place}: `{word}`: expected `ARGUMENT=TYPE`"))?;
            types.insert(argument.to_owned(), kind.to_owned());
        }
        let column = Column { path: path.to_owned(), class: class.to_owned(), types };
        if columns.insert(symbol.trim().to_owned(), column).is_some() {
            return Err(format!("{place}: `{symbol}` is there twice").into());
        }
    }
    areas.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    Ok((areas, columns))
}

/// The symbol without `_ptds` or `_ptsz`, and whether it had one.
fn plain(symbol: &str) -> (&str, bool) {
    match symbol.strip_suffix("_ptds").or_else(|| symbol.strip_suffix("_ptsz")) {
        Some(plain) => (plain, true),
        None => (symbol, false),
    }
}

/// `cuMemAlloc` and 2 of `cuMemAlloc_v2`.
fn base(plain: &str) -> (&str, u32) {
    plain.rsplit_once("_v").and_then(|(base, number)| Some((base, number.parse().ok()?))).unwrap_or((plain, 1))
}

fn write_library(
    out: &mut String,
    library: &str,
    facts: &BTreeMap<String, Fact>,
    columns: &BTreeMap<String, Column>,
    areas: &Areas,
) -> Result<usize, Fault> {
    let (mut present, mut absent, mut list) = (String::new(), String::new(), String::new());
    let mut used = 0;
    for (symbol, fact) in facts {
        let (plain, per_thread) = plain(symbol);
        let (base, number) = base(plain);
        let column = columns.get(symbol).or_else(|| columns.get(plain));
        used += usize::from(columns.contains_key(symbol));
        let area = areas.iter().find(|(prefix, _)| symbol.starts_with(prefix.as_str()));
        let area = area.map_or("other", |(_, area)| area);
        let class = match column {
            Some(column) => {
                if column.path != BY_HAND {
                    present.push_str(&row(symbol, fact, column, per_thread)?);
                }
                format!("Some(Class::{})", camel(&column.class))
            }
            None => {
                writeln!(absent, "            {symbol};")?;
                "None".to_owned()
            }
        };
        writeln!(
            list,
            "    Function {{ symbol: {symbol:?}, base: {base:?}, number: {number}, version: {}, per_thread: {per_thread}, class: {class}, area: {area:?} }},",
            fact.version,
        )?;
    }
    for (name, rows, what) in [("implemented", present, "implements"), ("absent", absent, "does not implement")] {
        writeln!(
            out,
            "/// Hands the {library} functions that the front end {what} to the macro `$then`.\n\
             #[macro_export]\nmacro_rules! {library}_{name} {{\n    ($then:path) => {{\n        $then! {{\n{rows}        }}\n    }};\n}}\n"
        )?;
    }
    let upper = library.to_uppercase();
    writeln!(
        out,
        "/// Every exported symbol of the library, by name.\npub static {upper}: &[Function] = &[\n{list}];\n"
    )?;
    Ok(used)
}

/// `symbol mode path::to::function(argument: Type, …) (argument, …);`
fn row(symbol: &str, fact: &Fact, column: &Column, per_thread: bool) -> Result<String, Fault> {
    for argument in column.types.keys() {
        if !fact.arguments.iter().any(|(name, _)| name == argument) {
            return Err(format!("table/columns.txt: `{symbol}` has no argument `{argument}`").into());
        }
    }
    let path = column.path.strip_prefix("crate::").map_or_else(|| format!("front::{}", column.path), str::to_owned);
    let mut declared = Vec::new();
    let mut passed = Vec::new();
    for (name, kind) in &fact.arguments {
        let kind = column.types.get(name).cloned().unwrap_or_else(|| wrapper(kind));
        passed.push(if per_thread && kind == "CUstream" { format!("{name}.or_per_thread()") } else { name.clone() });
        declared.push(format!("{name}: {kind}"));
    }
    let mode = if per_thread { "per_thread" } else { "plain" };
    Ok(format!("            {symbol} {mode} {path}({}) ({});\n", declared.join(", "), passed.join(", ")))
}

/// The safe stand-in for a C type.
fn wrapper(kind: &str) -> String {
    let kind = match kind {
        "*const c_char" => "Name",
        "*mut c_char" => "Text",
        "*mut c_void" | "*const c_void" => "Host",
        _ => kind,
    };
    if let Some(inner) = kind.strip_prefix("*mut ") {
        format!("Out<{}>", wrapper(inner))
    } else if let Some(inner) = kind.strip_prefix("*const ") {
        format!("In<{}>", wrapper(inner))
    } else {
        kind.to_owned()
    }
}

fn camel(class: &str) -> String {
    let mut out = String::new();
    for word in class.split('_') {
        let mut characters = word.chars();
        out.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(characters.as_str());
    }
    out
}
