//! `CUDA_VISIBLE_DEVICES`: a program may be shown some of the devices, in an order of its own.

use std::sync::Arc;

use cuda::{
    ContextId, CuResult, DeviceInfo, DeviceUsage, Driver, DriverInfo, EventId, FunctionId, HostBuffer, LaunchShape,
    ModuleId, ModuleLoad, Ordinal, Region, StreamId, StreamKind, TicketId,
};

/// A driver with some of another's devices.
struct Visible {
    inner: Arc<dyn Driver>,
    info: DriverInfo,
    ordinals: Vec<Ordinal>,
}

/// `all`, or what the environment leaves of it.
pub(crate) fn of_environment(all: &Arc<dyn Driver>) -> Arc<dyn Driver> {
    let Ok(list) = std::env::var("CUDA_VISIBLE_DEVICES") else { return Arc::clone(all) };
    let ordinals = select(&list, &all.info().devices);
    let device = |ordinal: &Ordinal| all.info().devices.get(ordinal.0 as usize).cloned();
    let devices = ordinals.iter().filter_map(device).collect();
    let info = DriverInfo { devices, ..all.info().clone() };
    Arc::new(Visible { inner: Arc::clone(all), info, ordinals })
}

/// The devices that a list names: positions or beginnings of `GPU-<uuid>`. As in CUDA the list ends at the first entry
/// that names no device, and a list that names one twice shows none.
fn select(list: &str, devices: &[DeviceInfo]) -> Vec<Ordinal> {
    let mut chosen = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let Some(position) = find(entry, devices) else { break };
        if chosen.contains(&position) {
            return Vec::new();
        }
        chosen.push(position);
    }
    chosen
}

fn find(entry: &str, devices: &[DeviceInfo]) -> Option<Ordinal> {
    if let Ok(position) = entry.parse::<u32>() {
        return ((position as usize) < devices.len()).then_some(Ordinal(position));
    }
    let mut matching = (0..).zip(devices).filter(|(_, device)| {
        let name = crate::nvml::uuid_text(&device.uuid);
        entry.len() > "GPU-".len() && name.starts_with(entry)
    });
    let (position, _) = matching.next()?;
    matching.next().is_none().then_some(Ordinal(position))
}

/// Arguments as the inner driver understands them: ordinals change, all else stays.
trait Translate: Sized {
    fn translate(self, _visible: &Visible) -> Self {
        self
    }
}

impl Translate for Ordinal {
    fn translate(self, visible: &Visible) -> Self {
        visible.ordinals.get(self.0 as usize).copied().unwrap_or(Self(u32::MAX))
    }
}

macro_rules! stays {
    ($($type:ty),*) => { $(impl Translate for $type {})* };
}

stays!(ContextId, EventId, FunctionId, LaunchShape, ModuleId, Region, StreamId, StreamKind, TicketId);
stays!(bool, u8, u32, i32, u64, &[u8]);

macro_rules! forward {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        impl Driver for Visible {
            fn info(&self) -> &DriverInfo {
                &self.info
            }

            $(fn $name(&self, $($argument: $type),*) -> CuResult<forward!(@answer $($answer)?)> {
                self.inner.$name($($argument.translate(self)),*)
            })*

            fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
                self.inner.copy_to_host(stream, target, source, wait)
            }
        }
    };
    (@answer) => { () };
    (@answer $answer:ty) => { $answer };
}

cuda::driver_calls!(forward);

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<DeviceInfo> {
        (1..=3)
            .map(|number| DeviceInfo {
                name: String::new(),
                uuid: [number; 16],
                total_memory: 0,
                tflops: 0.0,
                attributes: Vec::new(),
                pci_bus_id: String::new(),
            })
            .collect()
    }

    #[test]
    fn a_list_chooses_and_orders() {
        assert_eq!(select("2,0", &devices()), [Ordinal(2), Ordinal(0)]);
        assert_eq!(select(" 1 ", &devices()), [Ordinal(1)]);
    }

    #[test]
    fn a_list_ends_at_the_first_entry_that_names_nothing() {
        assert_eq!(select("1,7,0", &devices()), [Ordinal(1)]);
        assert_eq!(select("", &devices()), []);
        assert_eq!(select("-1", &devices()), []);
    }

    #[test]
    fn a_device_named_twice_hides_all() {
        assert_eq!(select("1,1", &devices()), []);
    }

    #[test]
    fn the_beginning_of_a_uuid_is_enough_when_it_is_the_only_one() {
        assert_eq!(select("GPU-0202", &devices()), [Ordinal(1)]);
        assert_eq!(select("GPU-0", &devices()), []);
    }
}
