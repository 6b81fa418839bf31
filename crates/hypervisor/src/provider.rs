//! Where GPUs come from: one provider per vendor, asked in order; the first that finds any serves the node.
//!
//! A vendor's driver is opened in a child process, never in the node itself: a driver that crashes or hangs while
//! being looked at costs that one process, and the node keeps no context on any card.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::{Bytes, Capability, Tflops, Vendor};

/// The library that implements a GPU for workers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Driver {
    /// The software GPU, built in.
    Soft,
    /// A `libcuda.so.1`.
    Library(PathBuf),
}

impl std::fmt::Display for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Soft => f.write_str("soft"),
            Self::Library(path) => write!(f, "{}", path.display()),
        }
    }
}

impl std::str::FromStr for Driver {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text.to_owned()))
    }
}

impl From<String> for Driver {
    fn from(text: String) -> Self {
        if text == "soft" { Self::Soft } else { Self::Library(PathBuf::from(text)) }
    }
}

impl From<Driver> for String {
    fn from(driver: Driver) -> Self {
        driver.to_string()
    }
}

/// What looking at a driver tells about one of its devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Product name.
    pub name: String,
    /// Its identity, as NVML writes it.
    pub uuid: String,
    /// All its memory.
    pub vram: Bytes,
    /// All its compute; `None` when that is not known.
    pub tflops: Option<Tflops>,
    /// Its compute capability.
    pub compute_capability: Capability,
    /// The NUMA node that it is next to, where the kernel tells.
    #[serde(default)]
    pub numa_node: Option<u32>,
}

/// A vendor's GPUs on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Devices {
    /// Their kind.
    pub vendor: Vendor,
    /// What opens them.
    pub driver: Driver,
    /// The devices, in the driver's order.
    pub found: Vec<Found>,
}

/// Looks at a driver's devices: the seam between finding GPUs and the process that opens them.
pub trait Probe {
    /// The devices of a driver.
    ///
    /// # Errors
    /// What went wrong, for people.
    fn devices(&self, driver: &Driver) -> Result<Vec<Found>, String>;
}

/// One vendor.
pub trait Provider {
    /// Finds this vendor's GPUs; `None` when there are none.
    ///
    /// # Errors
    /// What is there but cannot be used, for people.
    fn find(&self, probe: &dyn Probe) -> Result<Option<Devices>, String>;
}

/// The software GPU: always there.
#[derive(Debug)]
pub struct Soft;

impl Provider for Soft {
    fn find(&self, probe: &dyn Probe) -> Result<Option<Devices>, String> {
        let found = probe.devices(&Driver::Soft)?;
        Ok(Some(Devices { vendor: Vendor::Software, driver: Driver::Soft, found }))
    }
}

/// NVIDIA's GPUs, through the `libcuda.so.1` of their driver.
#[derive(Debug)]
pub struct Nvidia {
    /// Where to look for the library.
    pub candidates: Vec<PathBuf>,
}

/// Where Linux distributions, containers and WSL put NVIDIA's driver library.
const PLACES: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
    "/usr/local/cuda/compat",
];

/// The file that our own `libcuda.so.1` is a link to.
pub const OUR_LIBRARY: &str = "libtensor_fusion_cuda.so";

fn is_ours(library: &Path) -> bool {
    library.canonicalize().is_ok_and(|file| file.file_name().is_some_and(|name| name == OUR_LIBRARY))
}

impl Default for Nvidia {
    fn default() -> Self {
        Self { candidates: PLACES.iter().map(|place| Path::new(place).join("libcuda.so.1")).collect() }
    }
}

impl Provider for Nvidia {
    fn find(&self, probe: &dyn Probe) -> Result<Option<Devices>, String> {
        let real = |path: &PathBuf| path.canonicalize().ok().filter(|file| !is_ours(file));
        for library in self.candidates.iter().filter_map(real) {
            let driver = Driver::Library(library);
            // A library without a card (a container image, a laptop with the driver installed) is no GPU.
            match probe.devices(&driver) {
                Ok(found) if !found.is_empty() => {
                    return Ok(Some(Devices { vendor: Vendor::Nvidia, driver, found }));
                }
                Ok(_) => tracing::info!(library = %driver, "a driver library without devices"),
                Err(error) => tracing::warn!(library = %driver, %error, "a driver library that does not work"),
            }
        }
        Ok(None)
    }
}

/// One given library, whatever it is.
#[derive(Debug)]
pub struct Given(pub Driver);

impl Provider for Given {
    fn find(&self, probe: &dyn Probe) -> Result<Option<Devices>, String> {
        let found = probe.devices(&self.0)?;
        let vendor = match &self.0 {
            Driver::Library(path) if !is_ours(path) => Vendor::Nvidia,
            // Our own library by its path is the software GPU too: programs must hand it PTX.
            Driver::Soft | Driver::Library(_) => Vendor::Software,
        };
        Ok((!found.is_empty()).then(|| Devices { vendor, driver: self.0.clone(), found }))
    }
}

/// The GPUs of this machine: of the first provider that finds any.
///
/// # Errors
/// What the provider said that could not use what it found, or that nothing was found.
pub fn find(providers: &[&dyn Provider], probe: &dyn Probe) -> Result<Devices, String> {
    for provider in providers {
        if let Some(devices) = provider.find(probe)? {
            return Ok(devices);
        }
    }
    Err("no GPU was found".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Result<usize, &'static str>);

    impl Probe for Fake {
        fn devices(&self, driver: &Driver) -> Result<Vec<Found>, String> {
            let device = |index: usize| Found {
                name: "a card".to_owned(),
                uuid: format!("GPU-{index}"),
                vram: Bytes::from_gib(8),
                tflops: None,
                compute_capability: Capability { major: 12, minor: 0 },
                numa_node: None,
            };
            match driver {
                Driver::Soft => Ok(vec![device(0)]),
                Driver::Library(_) => self.0.map(|count| (0..count).map(device).collect()).map_err(str::to_owned),
            }
        }
    }

    fn libraries() -> (tempfile::TempDir, Nvidia) {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("ours");
        let theirs = folder.path().join("theirs");
        std::fs::create_dir_all(&ours).unwrap();
        std::fs::create_dir_all(&theirs).unwrap();
        std::fs::write(ours.join(OUR_LIBRARY), "").unwrap();
        std::os::unix::fs::symlink(OUR_LIBRARY, ours.join("libcuda.so.1")).unwrap();
        std::fs::write(theirs.join("libcuda.so.580"), "").unwrap();
        std::os::unix::fs::symlink("libcuda.so.580", theirs.join("libcuda.so.1")).unwrap();
        let candidates = vec![folder.path().join("none"), ours.join("libcuda.so.1"), theirs.join("libcuda.so.1")];
        (folder, Nvidia { candidates })
    }

    #[test]
    fn a_card_is_preferred_to_the_software_gpu_and_our_own_library_is_no_card() {
        let (_folder, nvidia) = libraries();
        let devices = find(&[&nvidia, &Soft], &Fake(Ok(2))).unwrap();
        assert_eq!((devices.vendor, devices.found.len()), (Vendor::Nvidia, 2));
        assert!(devices.driver.to_string().ends_with("theirs/libcuda.so.580"));
        let only_ours = Nvidia { candidates: nvidia.candidates[..2].to_vec() };
        assert_eq!(find(&[&only_ours, &Soft], &Fake(Ok(2))).unwrap().vendor, Vendor::Software);
    }

    #[test]
    fn a_driver_without_cards_or_that_fails_leaves_the_software_gpu() {
        let (_folder, nvidia) = libraries();
        assert_eq!(find(&[&nvidia, &Soft], &Fake(Ok(0))).unwrap().vendor, Vendor::Software);
        assert_eq!(find(&[&nvidia, &Soft], &Fake(Err("it crashed"))).unwrap().vendor, Vendor::Software);
    }

    #[test]
    fn a_given_library_must_work() {
        let given = Given(Driver::Library(PathBuf::from("/a/libcuda.so.1")));
        assert_eq!(find(&[&given], &Fake(Ok(1))).unwrap().vendor, Vendor::Nvidia);
        assert_eq!(find(&[&given], &Fake(Err("it crashed"))).unwrap_err(), "it crashed");
        assert_eq!(find(&[&given], &Fake(Ok(0))).unwrap_err(), "no GPU was found");
        let (_folder, nvidia) = libraries();
        let ours = Given(Driver::Library(nvidia.candidates[1].clone()));
        assert_eq!(find(&[&ours], &Fake(Ok(1))).unwrap().vendor, Vendor::Software);
    }
}
