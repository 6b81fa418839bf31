//! Kubernetes quantities as they stand in our objects: `8Gi`, `500m`, or a plain number.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use types::{Bytes, Percent, Tflops};

/// An amount in Kubernetes' notation. What it counts is said by the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// A quantity that is no amount of what the field counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not an amount of memory.
    #[error(transparent)]
    Bytes(#[from] types::ParseBytesError),
    /// Not an amount of compute.
    #[error(transparent)]
    Tflops(#[from] types::ParseTflopsError),
    /// Not a part of a whole.
    #[error("`{0}` is no percentage: expected a number from 0 to 100")]
    Percent(String),
}

impl Quantity {
    /// As an amount of memory.
    ///
    /// # Errors
    /// It is none.
    pub fn bytes(&self) -> Result<Bytes, QuantityError> {
        Ok(self.0.parse()?)
    }

    /// As an amount of compute.
    ///
    /// # Errors
    /// It is none.
    pub fn tflops(&self) -> Result<Tflops, QuantityError> {
        Ok(self.0.parse()?)
    }

    /// As a part of a whole, in percent.
    ///
    /// # Errors
    /// It is none, or more than all.
    pub fn percent(&self) -> Result<Percent, QuantityError> {
        let wrong = || QuantityError::Percent(self.0.clone());
        // A number with a suffix, as an amount of compute is.
        let thousandths = self.0.parse::<Tflops>().map_err(|_| wrong())?.milli();
        let percent = Percent::try_from(thousandths as f64 / 1000.0).map_err(|_| wrong())?;
        if percent > Percent::new(100) { Err(wrong()) } else { Ok(percent) }
    }
}

impl From<Bytes> for Quantity {
    /// In the largest binary unit that divides it.
    fn from(bytes: Bytes) -> Self {
        let units = [(1_u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let whole = bytes.get();
        let unit = units.into_iter().find(|(size, _)| whole > 0 && whole.is_multiple_of(*size));
        Self(unit.map_or_else(|| whole.to_string(), |(size, unit)| format!("{}{unit}", whole / size)))
    }
}

impl From<Tflops> for Quantity {
    fn from(tflops: Tflops) -> Self {
        let milli = tflops.milli();
        Self(if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") })
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(D::Error::custom(format!("`{other}` is no quantity: expected text or a number"))),
        }
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            // Kubernetes' own pattern, less the minus sign: nothing of ours can be negative.
            "pattern": r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_from_text_and_numbers() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text).unwrap();
        assert_eq!(read(r#""8Gi""#).bytes(), Ok(Bytes::from_gib(8)));
        assert_eq!(read("1024").bytes(), Ok(Bytes::new(1024)));
        assert_eq!(read(r#""500m""#).tflops(), Ok(Tflops::from_milli(500)));
        assert_eq!(read("2.5").tflops(), Ok(Tflops::from_milli(2500)));
        assert!(read(r#""lots""#).bytes().is_err());
        assert!(serde_json::from_str::<Quantity>("true").is_err());
    }

    #[test]
    fn amounts_come_back_from_their_quantities() {
        for bytes in [Bytes::new(0), Bytes::new(1), Bytes::new(1536), Bytes::from_mib(300), Bytes::from_gib(80)] {
            assert_eq!(Quantity::from(bytes).bytes(), Ok(bytes));
        }
        assert_eq!(Quantity::from(Bytes::from_gib(80)).0, "80Gi");
        for milli in [0, 1, 999, 1000, 165_160] {
            let tflops = Tflops::from_milli(milli);
            assert_eq!(Quantity::from(tflops).tflops(), Ok(tflops));
        }
    }
}
