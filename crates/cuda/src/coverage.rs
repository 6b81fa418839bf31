//! How much of CUDA and NVML there is, from the table.

use std::collections::BTreeMap;

use crate::api::{CUDA, Class, Function, NVML};

/// A part of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// `cuda` or `nvml`.
    pub library: &'static str,
    /// Name, for example `memory pools`.
    pub name: &'static str,
    /// Symbols with a front function, by name. A `_ptds` or `_ptsz` twin goes with its symbol and is not counted.
    pub implemented: Vec<(&'static str, Class)>,
    /// Symbols that answer "not supported".
    pub absent: Vec<&'static str>,
}

/// Every area of the driver API, then of NVML, by name.
#[must_use]
pub fn coverage() -> Vec<Area> {
    let mut areas = of("cuda", CUDA);
    areas.extend(of("nvml", NVML));
    areas
}

fn of(library: &'static str, functions: &[Function]) -> Vec<Area> {
    let mut areas: BTreeMap<&str, Area> = BTreeMap::new();
    for function in functions.iter().filter(|function| !function.per_thread) {
        let area =
            areas.entry(function.area).or_insert_with(|| Area { library, name: function.area, ..Area::default() });
        match function.class {
            Some(class) => area.implemented.push((function.symbol, class)),
            None => area.absent.push(function.symbol),
        }
    }
    areas.into_values().collect()
}

impl Class {
    /// The class as the coverage page names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cached => "cached",
            Self::OneWay => "one-way",
            Self::RoundTrip => "round trip",
            Self::Blocking => "blocking",
        }
    }
}
