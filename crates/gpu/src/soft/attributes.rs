//! Every `CUdevice_attribute` of a software device.
//!
//! Numbers are those of `cuda.h` 13; values are what NVIDIA documents for the compute capability (CUDA C++ Programming
//! Guide, "Technical specifications per compute capability"), with honest zeros for what this device cannot do.

use super::SoftConfig;

/// Position of a software device on an imaginary PCI bus: `0000:BUS:00.0`.
pub(super) fn pci_bus(index: u32) -> u32 {
    index + 1
}

/// Shared memory in KiB of one multiprocessor, by compute capability.
fn shared_per_multiprocessor(capability: u32) -> i32 {
    match capability {
        0..=69 => 96,
        70..=74 => 96,
        75..=79 => 64,
        80 => 164,
        86 | 89 => 100,
        81..=88 => 164,
        90..=119 => 228,
        120..=129 => 100,
        _ => 228,
    }
}

/// Largest shared memory of a block that asks for it, in bytes.
pub(super) fn shared_opt_in(capability: u32) -> u32 {
    match capability {
        0..=69 => 48 << 10,
        70..=74 => 96 << 10,
        75..=79 => 64 << 10,
        _ => (shared_per_multiprocessor(capability) as u32 - 1) << 10,
    }
}

/// Resident threads of one multiprocessor.
fn threads_per_multiprocessor(capability: u32) -> i32 {
    match capability {
        75..=79 => 1024,
        86..=89 | 120..=129 => 1536,
        _ => 2048,
    }
}

/// Resident blocks of one multiprocessor.
fn blocks_per_multiprocessor(capability: u32) -> i32 {
    match capability {
        75..=79 | 86 | 87 => 16,
        88 | 89 | 120..=129 => 24,
        _ => 32,
    }
}

/// Multiprocessors that a card of this speed would have: about one for each 0.7 FP16 TFLOPS.
pub(super) fn multiprocessors(tflops: f64) -> i32 {
    (tflops / 0.7).round().clamp(1.0, 256.0) as i32
}

/// The device's attributes in ascending order of their numbers.
pub(super) fn attributes(config: &SoftConfig, index: u32) -> Vec<(u32, i32)> {
    let capability = config.compute_capability;
    let from = |least: u32| i32::from(capability >= least);
    let multiprocessors = multiprocessors(config.tflops);
    let l2 = (multiprocessors << 18).clamp(1 << 20, 64 << 20);
    let double_ratio = if matches!(capability, 60 | 70 | 80 | 90 | 100) { 2 } else { 64 };
    let mut all = vec![
        (1, 1024),
        (2, 1024),
        (3, 1024),
        (4, 64),
        (5, i32::MAX),
        (6, 65535),
        (7, 65535),
        (8, 48 << 10),
        (9, 64 << 10),
        (10, 32),
        (11, i32::MAX),
        (12, 65536),
        (13, 1_500_000),
        (14, 512),
        (15, 1),
        (16, multiprocessors),
        (17, 0),
        (18, 0),
        (19, 0),
        (20, 0),
        (30, 512),
        (31, 1),
        (32, 0),
        (33, pci_bus(index) as i32),
        (34, 0),
        (35, 0),
        (36, 7_000_000),
        (37, 256),
        (38, l2),
        (39, threads_per_multiprocessor(capability)),
        (40, 2),
        (41, 1),
        (50, 0),
        (51, 32),
        (75, (capability / 10) as i32),
        (76, (capability % 10) as i32),
        (78, 1),
        (79, 1),
        (80, 1),
        (81, shared_per_multiprocessor(capability) << 10),
        (82, 65536),
        (83, 0),
        (84, 0),
        (85, index as i32),
        (86, 0),
        (87, double_ratio),
        (88, 0),
        (89, 0),
        (90, 1),
        (91, 0),
        (95, from(60)),
        (96, 0),
        (97, shared_opt_in(capability) as i32),
        (98, 0),
        (99, 0),
        (106, blocks_per_multiprocessor(capability)),
        (108, 0),
        (109, 0),
        (111, if capability >= 80 { 1024 } else { 0 }),
        (115, 1),
        (120, from(90)),
        (126, if capability >= 90 { 4 } else { 1 }),
        (129, 1),
        (131, -1),
        (134, -1),
        (140, 0),
    ];
    // Textures and surfaces: the sizes that every card of the last ten years reports.
    all.extend(TEXTURES);
    // What a card may be able to do and this one is not: mapped and managed host memory, memory sharing between
    // processes, RDMA, multicast, memory operations in streams, tensor maps.
    all.extend((92..=94).chain(100..=105).map(|number| (number, 0)));
    all.extend([107, 110, 112, 113, 114].map(|number| (number, 0)));
    all.extend((116..=119).chain(121..=125).map(|number| (number, 0)));
    all.extend([127, 128, 130, 132, 133].map(|number| (number, 0)));
    all.extend((135..=138).chain(141..=161).map(|number| (number, 0)));
    all.sort_unstable_by_key(|entry| entry.0);
    all
}

const TEXTURES: [(u32, i32); 41] = [
    (21, 131_072),
    (22, 131_072),
    (23, 65_536),
    (24, 16_384),
    (25, 16_384),
    (26, 16_384),
    (27, 32_768),
    (28, 32_768),
    (29, 2048),
    (42, 32_768),
    (43, 2048),
    (44, 1),
    (45, 32_768),
    (46, 32_768),
    (47, 8192),
    (48, 8192),
    (49, 32_768),
    (52, 32_768),
    (53, 32_768),
    (54, 2046),
    (55, 32_768),
    (56, 131_072),
    (57, 65_536),
    (58, 16_384),
    (59, 16_384),
    (60, 16_384),
    (61, 32_768),
    (62, 2048),
    (63, 32_768),
    (64, 32_768),
    (65, 2048),
    (66, 32_768),
    (67, 32_768),
    (68, 2046),
    (69, 268_435_456),
    (70, 131_072),
    (71, 65_000),
    (72, 2_097_120),
    (73, 32_768),
    (74, 32_768),
    (77, 32_768),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn value(all: &[(u32, i32)], number: u32) -> i32 {
        all.iter().find(|entry| entry.0 == number).map(|entry| entry.1).unwrap()
    }

    #[test]
    fn every_attribute_of_cuda_13_is_there_once_in_order() {
        let all = attributes(&SoftConfig::default(), 0);
        let numbers: Vec<u32> = all.iter().map(|entry| entry.0).collect();
        let expected: Vec<u32> = (1..=161).filter(|number| *number != 139).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn values_agree_with_one_another() {
        for capability in [50, 70, 75, 80, 86, 89, 90, 100, 120, 121, 130] {
            let config = SoftConfig { compute_capability: capability, ..SoftConfig::default() };
            let all = attributes(&config, 1);
            assert_eq!(value(&all, 75) * 10 + value(&all, 76), capability as i32);
            assert!(
                value(&all, 97) <= value(&all, 81),
                "a block cannot have more shared memory than its multiprocessor"
            );
            assert!(value(&all, 8) <= value(&all, 97));
            assert!(value(&all, 1) <= value(&all, 39));
            assert_eq!(value(&all, 10), 32);
            assert_eq!(value(&all, 33), 2);
        }
    }
}
