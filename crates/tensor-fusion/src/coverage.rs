//! `tensor-fusion coverage`: which functions of CUDA and NVML there are.

use clap::Args;
use cuda::Area;
use serde::Serialize;

use crate::{
    failure::{Failed, Outcome},
    print,
};

/// Show which functions of CUDA and NVML there are.
#[derive(Debug, Args)]
pub(crate) struct Coverage {
    /// Only this part of the API, with every function: for example `streams` or `memory pools`
    area: Option<String>,
}

/// What `--json` prints for each area.
#[derive(Serialize)]
struct Row<'a> {
    library: &'a str,
    area: &'a str,
    implemented: Vec<Function<'a>>,
    missing: &'a [&'static str],
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    class: &'a str,
}

impl Coverage {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let mut areas = cuda::coverage();
        if let Some(wanted) = &self.area {
            let names: Vec<&str> = areas.iter().map(|area| area.name).collect();
            let unknown =
                || Failed::new(format!("there is no area `{wanted}`")).hint(format!("one of: {}", names.join(", ")));
            if !names.contains(&wanted.as_str()) {
                return Err(unknown());
            }
            areas.retain(|area| area.name == wanted);
        }
        if json {
            return Ok(print::json(&areas.iter().map(row).collect::<Vec<_>>())?);
        }
        let text = if self.area.is_some() { functions(&areas) } else { summary(&areas) };
        Ok(print::text(&text)?)
    }
}

fn row(area: &Area) -> Row<'_> {
    let function = |(name, class): &(&'static str, cuda::api::Class)| Function { name, class: class.name() };
    Row {
        library: area.library,
        area: area.name,
        implemented: area.implemented.iter().map(function).collect(),
        missing: &area.absent,
    }
}

fn summary(areas: &[Area]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for library in ["cuda", "nvml"] {
        let mut sums = [0, 0];
        for area in areas.iter().filter(|area| area.library == library) {
            let counts = [area.implemented.len(), area.absent.len()];
            sums = [sums[0] + counts[0], sums[1] + counts[1]];
            rows.push(vec![library.to_owned(), area.name.to_owned(), counts[0].to_string(), counts[1].to_string()]);
        }
        rows.push(vec![library.to_owned(), "in all".to_owned(), sums[0].to_string(), sums[1].to_string()]);
    }
    print::table(&["LIBRARY", "AREA", "THERE", "MISSING"], &rows)
}

fn functions(areas: &[Area]) -> String {
    let mut rows = Vec::new();
    for area in areas {
        rows.extend(area.implemented.iter().map(|(name, class)| vec![(*name).to_owned(), class.name().to_owned()]));
        rows.extend(area.absent.iter().map(|name| vec![(*name).to_owned(), "missing".to_owned()]));
    }
    print::table(&["FUNCTION", "COST"], &rows)
}
