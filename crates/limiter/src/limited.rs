//! A driver that shows and grants only a share of a GPU.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

// All of it, so that a new row of the table finds its types.
use cuda::*;
use parking_lot::Mutex;

use crate::{Account, Charge};

/// What a vGPU is made of.
#[derive(Clone, Debug)]
pub struct Share {
    /// The devices of the wrapped driver that it is a part of, in the order of its own ordinals, each with the account
    /// that all sessions of the vGPU share.
    pub devices: Vec<(Ordinal, Arc<Account>)>,
    /// FP16 TFLOPS that each device shows; `None` shows the whole device's.
    pub tflops: Option<f64>,
}

/// A [`Driver`] that shows some devices of another with the share's memory, and takes memory from the share's accounts.
pub struct Limited {
    // Fields are dropped in this order: the memory is really free before the account says so.
    inner: Arc<dyn Driver>,
    info: DriverInfo,
    held: Mutex<Held>,
    devices: Vec<(Ordinal, Charge)>,
}

/// What this session has been charged for.
#[derive(Debug, Default)]
struct Held {
    mappings: HashMap<u64, Mapping>,
    next: u64,
    /// Each context's device, by the vGPU's ordinals.
    contexts: HashMap<ContextId, Ordinal>,
    modules: HashMap<ModuleId, (ContextId, u64)>,
}

/// A mapping, noted before the driver makes it and until the driver has taken it back, so that no order of calls that
/// run at once leaves memory uncharged.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    size: u64,
    device: Ordinal,
    /// Tells it from a later one at the same address.
    number: u64,
    leaving: bool,
}

impl Held {
    fn insert(&mut self, device: Ordinal, address: u64, size: u64) {
        self.next += 1;
        self.mappings.insert(address, Mapping { size, device, number: self.next, leaving: false });
    }

    fn remove(&mut self, address: u64, number: u64) {
        if self.mappings.get(&address).is_some_and(|mapping| mapping.number == number) {
            self.mappings.remove(&address);
        }
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Limited {
    /// Opens a session of the application `pid` on a share of `inner`.
    ///
    /// # Errors
    /// `INVALID_DEVICE` when the wrapped driver has no such device.
    pub fn new(inner: Arc<dyn Driver>, share: &Share, pid: u32) -> CuResult<Self> {
        let mut info = inner.info().clone();
        let mut shown = Vec::with_capacity(share.devices.len());
        for (ordinal, account) in &share.devices {
            let whole = info.devices.get(ordinal.0 as usize).ok_or(CuError::INVALID_DEVICE)?;
            let total_memory = whole.total_memory.min(account.limit());
            shown.push(DeviceInfo { total_memory, tflops: share.tflops.unwrap_or(whole.tflops), ..whole.clone() });
        }
        info.devices = shown;
        let devices = share.devices.iter().map(|(ordinal, account)| (*ordinal, account.open(pid))).collect();
        Ok(Self { inner, info, held: Mutex::default(), devices })
    }

    /// The wrapped driver's ordinal and the account of one of the vGPU's devices.
    fn device(&self, device: Ordinal) -> CuResult<(Ordinal, &Charge)> {
        let (ordinal, charge) = self.devices.get(device.0 as usize).ok_or(CuError::INVALID_DEVICE)?;
        Ok((*ordinal, charge))
    }

    fn give_back(&self, device: Option<Ordinal>, bytes: u64) {
        if let Some(Ok((_, charge))) = device.map(|device| self.device(device)) {
            charge.give_back(bytes);
        }
    }

    fn usage(&self, device: Ordinal) -> CuResult<DeviceUsage> {
        let (ordinal, charge) = self.device(device)?;
        let whole = self.inner.usage(ordinal)?;
        let account = charge.account();
        Ok(DeviceUsage { used_memory: account.used(), processes: account.processes(), ..whole })
    }

    fn context_create(&self, context: ContextId, device: Ordinal, flags: u32) -> CuResult {
        self.inner.context_create(context, self.device(device)?.0, flags)?;
        self.held.lock().contexts.insert(context, device);
        Ok(())
    }

    fn context_destroy(&self, context: ContextId) -> CuResult {
        self.inner.context_destroy(context)?;
        let mut freed = 0;
        let mut held = self.held.lock();
        held.modules.retain(|_, (owner, bytes)| {
            let goes = *owner == context;
            freed += if goes { *bytes } else { 0 };
            !goes
        });
        let device = held.contexts.remove(&context);
        self.give_back(device, freed);
        Ok(())
    }

    fn mem_map(&self, device: Ordinal, address: u64, size: u64) -> CuResult {
        let (ordinal, charge) = self.device(device)?;
        {
            let mut held = self.held.lock();
            if held.mappings.contains_key(&address) {
                return Err(CuError::INVALID_VALUE);
            }
            charge.take(size)?;
            held.insert(device, address, size);
        }
        let result = self.inner.mem_map(ordinal, address, size);
        if result.is_err() {
            self.held.lock().mappings.remove(&address);
            charge.give_back(size);
        }
        result
    }

    fn mem_alloc(&self, device: Ordinal, size: u64) -> CuResult<u64> {
        let (ordinal, charge) = self.device(device)?;
        charge.take(size)?;
        let result = self.inner.mem_alloc(ordinal, size);
        match result {
            Ok(address) => self.held.lock().insert(device, address, size),
            Err(_) => charge.give_back(size),
        }
        result
    }

    fn mem_unmap(&self, device: Ordinal, address: u64) -> CuResult {
        let (ordinal, charge) = self.device(device)?;
        let mapping = {
            let mut held = self.held.lock();
            let ours = |mapping: &&mut Mapping| !mapping.leaving && mapping.device == device;
            let mapping = held.mappings.get_mut(&address).filter(ours);
            let mapping = mapping.ok_or(CuError::INVALID_VALUE)?;
            mapping.leaving = true;
            *mapping
        };
        let result = self.inner.mem_unmap(ordinal, address);
        let mut held = self.held.lock();
        if result.is_ok() {
            held.remove(address, mapping.number);
            charge.give_back(mapping.size);
        } else if let Some(mapping) = held.mappings.get_mut(&address) {
            mapping.leaving = false;
        }
        result
    }

    fn module_load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        let load = self.inner.module_load(context, module, image)?;
        if load.status != 0 {
            return Ok(load);
        }
        // A variable that another module declares too is only named by this one; the driver lists it once.
        let sizes = load.info.globals.iter().map(|global| global.size);
        let bytes = sizes.fold(0_u64, u64::saturating_add);
        let mut held = self.held.lock();
        let device = held.contexts.get(&context).copied().ok_or(CuError::INVALID_CONTEXT)?;
        if let Err(error) = self.device(device)?.1.take(bytes) {
            drop(held);
            self.inner.module_unload(module)?;
            return Err(error);
        }
        held.modules.insert(module, (context, bytes));
        Ok(load)
    }

    fn module_unload(&self, module: ModuleId) -> CuResult {
        self.inner.module_unload(module)?;
        let mut held = self.held.lock();
        if let Some((context, bytes)) = held.modules.remove(&module) {
            let device = held.contexts.get(&context).copied();
            self.give_back(device, bytes);
        }
        Ok(())
    }
}

macro_rules! limited {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        impl Driver for Limited {
            fn info(&self) -> &DriverInfo {
                &self.info
            }

            $(
                #[inline]
                fn $name(&self, $($arg: $type),*) -> CuResult<limited!(@answer $($answer)?)> {
                    limited!(@body $name self ($($arg),*))
                }
            )*

            fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
                self.inner.copy_to_host(stream, target, source, wait)
            }

            fn abandon(&self) {
                self.inner.abandon();
            }
        }
    };
    (@answer) => { () };
    (@answer $answer:ty) => { $answer };
    (@body usage $self:ident ($($arg:ident),*)) => { Limited::usage($self, $($arg),*) };
    (@body context_create $self:ident ($($arg:ident),*)) => { Limited::context_create($self, $($arg),*) };
    (@body context_destroy $self:ident ($($arg:ident),*)) => { Limited::context_destroy($self, $($arg),*) };
    (@body mem_map $self:ident ($($arg:ident),*)) => { Limited::mem_map($self, $($arg),*) };
    (@body mem_alloc $self:ident ($($arg:ident),*)) => { Limited::mem_alloc($self, $($arg),*) };
    (@body mem_unmap $self:ident ($($arg:ident),*)) => { Limited::mem_unmap($self, $($arg),*) };
    (@body module_load $self:ident ($($arg:ident),*)) => { Limited::module_load($self, $($arg),*) };
    (@body module_unload $self:ident ($($arg:ident),*)) => { Limited::module_unload($self, $($arg),*) };
    (@body $name:ident $self:ident ($($arg:ident),*)) => { $self.inner.$name($($arg),*) };
}

driver_calls!(limited);
