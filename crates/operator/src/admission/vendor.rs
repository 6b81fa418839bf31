//! The resource names of HAMi, by which a container asks for parts of a vendor's cards.
//!
//! Names, units and meanings are HAMi's. What a stock plugin of a vendor advertises (`plain`) asks for nothing of ours by itself;
//! all other names are resources of no node, so a pod that keeps them is never bound by a stock scheduler.

use types::Bytes;

/// How a container asks for cards of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// The vendor, as TensorFusion spells it.
    pub(super) vendor: &'static str,
    /// The model, where the names tell.
    pub(super) model: Option<&'static str>,
    /// Cards.
    pub(super) count: &'static str,
    /// Whether a vendor's own plugin advertises cards by this name.
    pub(super) plain: bool,
    /// Memory of each card.
    pub(super) memory: &'static str,
    /// What one of it is, in MiB.
    pub(super) mebibytes: u64,
    /// Memory of each card in percent.
    pub(super) percentage: Option<&'static str>,
    /// Compute of each card in percent.
    pub(super) cores: Option<&'static str>,
    /// 0 goes before 1.
    pub(super) priority: Option<&'static str>,
}

impl Family {
    const fn new(vendor: &'static str, count: &'static str, memory: &'static str, cores: &'static str) -> Self {
        Self {
            vendor,
            model: None,
            count,
            plain: false,
            memory,
            mebibytes: 1,
            percentage: None,
            cores: Some(cores),
            priority: None,
        }
    }

    const fn of_model(vendor: &'static str, model: &'static str, names: [&'static str; 3], mebibytes: u64) -> Self {
        Self { model: Some(model), mebibytes, ..Self::new(vendor, names[0], names[1], names[2]) }
    }

    /// All its names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.count), Some(self.memory), self.percentage, self.cores, self.priority].into_iter().flatten()
    }

    /// Those that no node has.
    pub(super) fn made_up(&self) -> impl Iterator<Item = &'static str> {
        let plain = self.plain.then_some(self.count);
        self.names().filter(move |name| Some(*name) != plain)
    }

    /// So much memory, if that can be said in bytes.
    pub(super) fn memory(&self, number: u64) -> Option<Bytes> {
        Some(Bytes::from_mib(number.checked_mul(self.mebibytes).filter(|mebibytes| *mebibytes <= 1 << 40)?))
    }
}

/// NVIDIA's, which a client of ours can use.
pub(super) const NVIDIA: Family = Family {
    plain: true,
    percentage: Some("nvidia.com/gpumem-percentage"),
    priority: Some("nvidia.com/priority"),
    ..Family::new("NVIDIA", "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores")
};

macro_rules! ascend {
    ($model:literal) => {
        Family::of_model(
            "Ascend",
            concat!("Ascend", $model),
            [
                concat!("huawei.com/Ascend", $model),
                concat!("huawei.com/Ascend", $model, "-memory"),
                concat!("huawei.com/Ascend", $model, "-core"),
            ],
            1,
        )
    };
}

macro_rules! iluvatar {
    ($model:literal) => {
        Family::of_model(
            "Iluvatar",
            $model,
            [
                concat!("iluvatar.ai/", $model, "-vgpu"),
                concat!("iluvatar.ai/", $model, ".vMem"),
                concat!("iluvatar.ai/", $model, ".vCore"),
            ],
            256,
        )
    };
}

/// All that we know.
pub(super) const FAMILIES: [Family; 19] = [
    NVIDIA,
    Family::new("NVIDIA", "volcano.sh/vgpu-number", "volcano.sh/vgpu-memory", "volcano.sh/vgpu-cores"),
    Family { plain: true, ..Family::new("AMD", "amd.com/gpu", "amd.com/gpumem", "amd.com/gpucores") },
    Family::new("Hygon", "hygon.com/dcunum", "hygon.com/dcumem", "hygon.com/dcucores"),
    Family {
        mebibytes: 256,
        ..Family::new(
            "Cambricon",
            "cambricon.com/vmlu",
            "cambricon.com/mlu.smlu.vmemory",
            "cambricon.com/mlu.smlu.vcore",
        )
    },
    Family {
        mebibytes: 1024,
        ..Family::new("MetaX", "metax-tech.com/sgpu", "metax-tech.com/vmemory", "metax-tech.com/vcore")
    },
    Family {
        mebibytes: 512,
        ..Family::new("MooreThreads", "mthreads.com/vgpu", "mthreads.com/sgpu-memory", "mthreads.com/sgpu-core")
    },
    Family { cores: None, ..Family::new("KunlunXin", "kunlunxin.com/vxpu", "kunlunxin.com/vxpu-memory", "") },
    ascend!("910A"),
    ascend!("910B2"),
    ascend!("910B3"),
    ascend!("910B4"),
    ascend!("910B4-1"),
    ascend!("310P"),
    ascend!("910C"),
    iluvatar!("MR-V100"),
    iluvatar!("MR-V50"),
    iluvatar!("BI-V150"),
    iluvatar!("BI-V100"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_of_one_family_and_the_chart_sends_all_that_ask() {
        let mut all = BTreeSet::new();
        for name in FAMILIES.iter().flat_map(Family::names) {
            assert!(all.insert(name), "{name} is of two families");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/tensor-fusion/templates/_helpers.tpl");
        let chart = std::fs::read_to_string(path).unwrap();
        for name in FAMILIES.iter().flat_map(Family::made_up) {
            assert!(chart.contains(&format!("\"{name}\"")), "the chart's webhook is not asked about {name}");
        }
    }

    #[test]
    fn amounts_are_in_the_units_of_their_family() {
        assert_eq!(NVIDIA.memory(3000), Some(Bytes::from_mib(3000)));
        let of = |memory: &str| FAMILIES.into_iter().find(|family| family.memory == memory).unwrap();
        assert_eq!(of("metax-tech.com/vmemory").memory(4), Some(Bytes::from_gib(4)));
        assert_eq!(of("cambricon.com/mlu.smlu.vmemory").memory(8), Some(Bytes::from_gib(2)));
        assert_eq!(of("mthreads.com/sgpu-memory").memory(u64::MAX), None);
    }
}
