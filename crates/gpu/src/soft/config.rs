//! What the software devices are: how many, how large, how fast, which generation.
//!
//! Everything has a default; the environment changes it. A bad value names the variable, what it holds and what is
//! allowed, because whoever set it reads only that line.

use cuda::AddressRange;

/// Configuration of the software devices of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftConfig {
    /// Number of devices.
    pub devices: u32,
    /// Video memory of each device in bytes.
    pub vram: u64,
    /// FP16 TFLOPS that each device claims.
    pub tflops: f64,
    /// Compute capability, times ten: 120 for 12.0.
    pub compute_capability: u32,
    /// Product name.
    pub name: String,
    /// What the devices' identities are made of, besides their names and positions; `None` takes the host's name.
    pub seed: Option<String>,
    /// Identities of the devices, instead of made ones.
    pub uuids: Vec<[u8; 16]>,
    /// Device addresses for this session; `None` takes the lowest free ones of this process.
    pub addresses: Option<AddressRange>,
}

/// A variable of the environment that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}=`{value}` is not allowed: expected {expected}")]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What it holds.
    pub value: String,
    /// What it may hold.
    pub expected: &'static str,
}

const DEVICES: &str = "TENSOR_FUSION_SOFT_DEVICES";
const VRAM: &str = "TENSOR_FUSION_SOFT_VRAM";
const TFLOPS: &str = "TENSOR_FUSION_SOFT_TFLOPS";
const CAPABILITY: &str = "TENSOR_FUSION_SOFT_CC";
const NAME: &str = "TENSOR_FUSION_SOFT_NAME";
const SEED: &str = "TENSOR_FUSION_SOFT_SEED";
const UUIDS: &str = "TENSOR_FUSION_SOFT_UUIDS";

const GIB: u64 = 1 << 30;
/// What one session's addresses must hold is bounded by the window.
const MAX_VRAM: u64 = 128 * GIB;

impl Default for SoftConfig {
    fn default() -> Self {
        Self {
            devices: 1,
            vram: 8 * GIB,
            tflops: 20.0,
            compute_capability: 120,
            name: "Tensor Fusion Software GPU".to_owned(),
            seed: None,
            uuids: Vec::new(),
            addresses: None,
        }
    }
}

impl SoftConfig {
    /// Reads the configuration from the environment.
    ///
    /// # Errors
    /// The first variable that cannot be understood.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads the configuration from any source of variables.
    ///
    /// # Errors
    /// The first variable that cannot be understood.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = |variable: &'static str| lookup(variable).filter(|value| !value.is_empty());
        let mut config = Self::default();
        if let Some(value) = read(DEVICES) {
            config.devices = value.trim().parse().ok().filter(|count| *count <= 16).ok_or(ConfigError {
                variable: DEVICES,
                value,
                expected: "a number of devices from 0 to 16",
            })?;
        }
        if let Some(value) = read(VRAM) {
            config.vram =
                parse_bytes(&value).filter(|bytes| (1 << 20..=MAX_VRAM).contains(bytes)).ok_or(ConfigError {
                    variable: VRAM,
                    value,
                    expected: "bytes with an optional unit (8GiB, 512Mi, 4G) from 1MiB to 128GiB",
                })?;
        }
        if let Some(value) = read(TFLOPS) {
            config.tflops = value
                .trim()
                .parse()
                .ok()
                .filter(|number| (0.001..=100_000.0).contains(number))
                .ok_or(ConfigError { variable: TFLOPS, value, expected: "a number of TFLOPS from 0.001 to 100000" })?;
        }
        if let Some(value) = read(CAPABILITY) {
            config.compute_capability = parse_capability(&value).ok_or(ConfigError {
                variable: CAPABILITY,
                value,
                expected: "a compute capability from 5.0 to 20.0, such as 8.0 or 12.0",
            })?;
        }
        if let Some(value) = read(NAME) {
            if value.len() > 255 || value.contains('\0') {
                return Err(ConfigError { variable: NAME, value, expected: "at most 255 bytes of text" });
            }
            config.name = value;
        }
        config.seed = read(SEED);
        if let Some(value) = read(UUIDS) {
            let uuids: Vec<String> = value.split(',').map(str::to_owned).collect();
            config = config.with_uuids(&uuids)?;
        }
        Ok(config)
    }

    /// As many devices as there are identities, each with its own.
    ///
    /// # Errors
    /// Text that is no identity, or too much of it.
    pub fn with_uuids(mut self, uuids: &[String]) -> Result<Self, ConfigError> {
        self.uuids = uuids
            .iter()
            .map(|uuid| parse_uuid(uuid))
            .collect::<Option<_>>()
            .filter(|_| uuids.len() <= 16)
            .ok_or_else(|| ConfigError {
                variable: UUIDS,
                value: uuids.join(","),
                expected: "up to 16 identities such as GPU-00010203-0405-0607-0809-0a0b0c0d0e0f with commas between",
            })?;
        self.devices = u32::try_from(self.uuids.len()).unwrap_or_default();
        Ok(self)
    }
}

/// `8GiB`, `8Gi`, `8G`, `512MB`, `1048576`: decimal and binary units.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let fraction: f64 = number.parse().ok()?;
    let bytes = fraction * factor as f64;
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

fn parse_capability(text: &str) -> Option<u32> {
    let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    ((5..=20).contains(&major) && minor <= 9 && minor.to_string().len() == 1).then_some(major * 10 + minor)
}

/// `GPU-00010203-0405-0607-0809-0a0b0c0d0e0f`, in any case.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("gpu-")?;
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (parts == [8, 4, 4, 4, 12] && !digits.starts_with('+')).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<SoftConfig, ConfigError> {
        SoftConfig::from_lookup(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        assert_eq!(SoftConfig::from_lookup(|_| None), Ok(SoftConfig::default()));
        assert_eq!(with(VRAM, ""), Ok(SoftConfig::default()));
    }

    #[test]
    fn units_are_understood() {
        assert_eq!(with(VRAM, "4GiB").unwrap().vram, 4 << 30);
        assert_eq!(with(VRAM, "1.5 Gi").unwrap().vram, 3 << 29);
        assert_eq!(with(VRAM, "2G").unwrap().vram, 2_000_000_000);
        assert_eq!(with(VRAM, "16777216").unwrap().vram, 16 << 20);
        assert_eq!(with(CAPABILITY, "8.6").unwrap().compute_capability, 86);
        assert_eq!(with(CAPABILITY, "13").unwrap().compute_capability, 130);
    }

    #[test]
    fn identities_can_be_given() {
        let uuids = with(UUIDS, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f, gpu-FF010203-0405-0607-0809-0a0b0c0d0e0f");
        let uuids = uuids.unwrap().uuids;
        assert_eq!(uuids[0], std::array::from_fn(|index| index as u8));
        assert_eq!((uuids.len(), uuids[1][0]), (2, 0xff));
        for wrong in ["GPU-1", "00010203-0405-0607-0809-0a0b0c0d0e0f", "GPU-+0010203-0405-0607-0809-0a0b0c0d0e0f"] {
            assert!(SoftConfig::from_lookup(|name| (name == UUIDS).then(|| wrong.to_owned())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bad_value_names_the_variable_the_value_and_what_is_allowed() {
        let text = with(VRAM, "lots").unwrap_err().to_string();
        assert!(text.contains(VRAM) && text.contains("lots") && text.contains("8GiB"), "{text}");
        assert!(with(DEVICES, "17").is_err());
        assert!(with(TFLOPS, "-1").is_err());
        assert!(with(TFLOPS, "nan").is_err());
        assert!(with(CAPABILITY, "8.10").is_err());
        assert!(with(VRAM, "18446744073709551615Ti").is_err());
    }
}
