//! The C-shaped calls, over a fake driver.

use cuda::CuError;
use cuda::types::{
    CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUarray, CUcontext, CUdevResource, CUfunction, CUkernel, CUlaunchAttribute,
    CUlaunchConfig, CUlibrary, CUlinkState, CUmodule, CUstream, Host, In, Out,
};

use super::engine::Engine;
use super::engine::fake::{Fake, TOTAL, engine};
use super::{context, copy, device, fill, for_tests, host, kernel, launch, library, link, memory, module, pointer};
use super::{resource, stream};

/// Calls of this thread go to a fake with two devices; device 0's primary context is current.
fn ready() -> (&'static Engine, std::sync::Arc<Fake>) {
    let (engine, fake) = engine(2);
    let engine = for_tests::set(engine);
    let mut current = CUcontext::NULL;
    context::primary_retain(Out::to(&mut current), 0).unwrap();
    context::set_current(current).unwrap();
    (engine, fake)
}

fn alloc(bytes: usize) -> u64 {
    let mut address = 0;
    memory::alloc(Out::to(&mut address), bytes).unwrap();
    address
}

fn pointer_attribute<T: Default>(number: u32, address: u64) -> Result<T, CuError> {
    let mut value = T::default();
    pointer::attribute(Host::of(&raw mut value), number, address).map(|()| value)
}

#[test]
fn null_answers_and_foreign_devices_are_errors() {
    ready();
    assert_eq!(memory::alloc(Out::null(), 1), Err(CuError::INVALID_VALUE));
    assert_eq!(device::get(Out::to(&mut 0), 2), Err(CuError::INVALID_DEVICE));
    assert_eq!(device::get(Out::to(&mut 0), -1), Err(CuError::INVALID_DEVICE));
    let mut value = 7;
    device::get_attribute(Out::to(&mut value), 83, 0).unwrap();
    assert_eq!(value, 1, "managed memory is there where the client places memory");
    assert_eq!(device::get_attribute(Out::to(&mut value), 0, 0), Err(CuError::INVALID_VALUE));
    device::get_attribute(Out::to(&mut value), 75, 1).unwrap();
    assert_eq!(value, 12);
    let (mut free, mut total) = (0, 0);
    alloc(1000);
    memory::info(Out::to(&mut free), Out::to(&mut total)).unwrap();
    assert_eq!((free as u64, total as u64), (TOTAL - 1000, TOTAL));
}

#[test]
fn addresses_say_what_they_are() {
    ready();
    let address = alloc(100);
    assert_eq!(pointer_attribute::<u32>(2, address + 99), Ok(2));
    assert_eq!(pointer_attribute::<u64>(11, address + 99), Ok(address));
    assert_eq!(pointer_attribute::<u64>(12, address), Ok(100));
    assert_eq!(pointer_attribute::<u64>(3, address + 1), Ok(address + 1));
    assert_eq!(pointer_attribute::<i32>(9, address), Ok(0));
    assert_eq!(pointer_attribute::<u32>(2, address + 100), Err(CuError::INVALID_VALUE));
    let mut pinned = Host::NULL;
    host::alloc(Out::to(&mut pinned), 64).unwrap();
    assert_eq!(pointer_attribute::<u32>(2, pinned.address()), Ok(1));
    let unknown = 5_u8;
    let (mut kind, mut ordinal, mut pointer_value) = (9_u32, 9_i32, 9_u64);
    let data = [Host::of(&raw mut kind), Host::of(&raw mut ordinal), Host::of(&raw mut pointer_value)];
    pointer::attributes(3, In::of(&[2, 9, 3][0]), In::of(&data[0]), &raw const unknown as u64).unwrap();
    assert_eq!((kind, ordinal, pointer_value), (0, -2, 0), "not an error where several are asked for");
    pointer::attributes(3, In::of(&[2, 9, 3][0]), In::of(&data[0]), address + 5).unwrap();
    assert_eq!((kind, ordinal, pointer_value), (2, 0, address + 5));
}

fn no_copy() -> CUDA_MEMCPY2D {
    CUDA_MEMCPY2D {
        src_x_in_bytes: 0,
        src_y: 0,
        src_memory_type: 1,
        src_host: Host::NULL,
        src_device: 0,
        src_array: CUarray::NULL,
        src_pitch: 0,
        dst_x_in_bytes: 0,
        dst_y: 0,
        dst_memory_type: 1,
        dst_host: Host::NULL,
        dst_device: 0,
        dst_array: CUarray::NULL,
        dst_pitch: 0,
        width_in_bytes: 0,
        height: 0,
    }
}

#[test]
fn a_window_of_rows_goes_there_and_back() {
    ready();
    let address = alloc(8 * 4);
    fill::bytes(address, 0xEE, 32).unwrap();
    let source: Vec<u8> = (0..30).collect();
    let there = CUDA_MEMCPY2D {
        src_x_in_bytes: 1,
        src_y: 2,
        src_host: Host::of(source.as_ptr()),
        src_pitch: 6,
        dst_x_in_bytes: 3,
        dst_y: 1,
        dst_memory_type: 2,
        dst_device: address,
        dst_pitch: 8,
        width_in_bytes: 4,
        height: 2,
        ..no_copy()
    };
    copy::rows(In::of(&there)).unwrap();
    let mut back = [0_u8; 32];
    copy::to_host(Host::of(back.as_mut_ptr()), address, 32).unwrap();
    let mut expected = [0xEE_u8; 32];
    expected[11..15].copy_from_slice(&[13, 14, 15, 16]);
    expected[19..23].copy_from_slice(&[19, 20, 21, 22]);
    assert_eq!(back, expected);
    let beyond = CUDA_MEMCPY2D { dst_x_in_bytes: 5, ..there };
    assert_eq!(copy::rows(In::of(&beyond)), Err(CuError::INVALID_VALUE));
    let mut unified = [0_u8; 4];
    copy::any(Host::of(unified.as_mut_ptr()).address(), address + 11, 4).unwrap();
    assert_eq!(unified, [13, 14, 15, 16]);
}

#[test]
fn slices_are_copied_between_pitches() {
    ready();
    let address = alloc(64);
    let source: Vec<u8> = (0..64).collect();
    let slices = CUDA_MEMCPY3D {
        src_x_in_bytes: 0,
        src_y: 0,
        src_z: 1,
        src_lod: 0,
        src_memory_type: 1,
        src_host: Host::of(source.as_ptr()),
        src_device: 0,
        src_array: CUarray::NULL,
        reserved0: Host::NULL,
        src_pitch: 4,
        src_height: 3,
        dst_x_in_bytes: 0,
        dst_y: 0,
        dst_z: 0,
        dst_lod: 0,
        dst_memory_type: 2,
        dst_host: Host::NULL,
        dst_device: address,
        dst_array: CUarray::NULL,
        reserved1: Host::NULL,
        dst_pitch: 2,
        dst_height: 2,
        width_in_bytes: 2,
        height: 2,
        depth: 3,
    };
    copy::slices(In::of(&slices)).unwrap();
    let mut back = [0_u8; 12];
    copy::to_host(Host::of(back.as_mut_ptr()), address, 12).unwrap();
    assert_eq!(back, [12, 13, 16, 17, 24, 25, 28, 29, 36, 37, 40, 41]);
}

fn load(image: &'static [u8]) -> CUmodule {
    let mut loaded = CUmodule::NULL;
    module::load(Out::to(&mut loaded), Host::of(image.as_ptr())).unwrap();
    loaded
}

fn name(text: &'static std::ffi::CStr) -> cuda::types::Name<'static> {
    cuda::types::Name::from_static(text)
}

#[test]
fn a_librarys_kernel_may_stand_where_a_function_may() {
    let (_, fake) = ready();
    let image = b"entry f 4\nglobal g 16\n\0";
    let mut loaded = CUlibrary::NULL;
    let none = Host::NULL;
    library::load(Out::to(&mut loaded), Host::of(image.as_ptr()), none, none, 0, none, none, 0).unwrap();
    let mut found = CUkernel::NULL;
    library::kernel(Out::to(&mut found), loaded, name(c"f")).unwrap();
    let mut registers = 0;
    kernel::kernel_attribute(Out::to(&mut registers), 4, found, 0).unwrap();
    assert_eq!(registers, 32);
    let value = 5_u32;
    let params = [Host::of(&raw const value)];
    let function = CUfunction(found.0);
    launch::kernel(function, 1, 1, 1, 32, 1, 1, 0, CUstream::NULL, Host::of(params.as_ptr()), none).unwrap();
    assert_eq!(fake.state.lock().launches[0].3, 5_u32.to_le_bytes());
    let (mut first, mut second) = (0, 0);
    library::global(Out::to(&mut first), Out::null(), loaded, name(c"g")).unwrap();
    let mut owner = CUmodule::NULL;
    library::module(Out::to(&mut owner), loaded).unwrap();
    module::global(Out::to(&mut second), Out::null(), owner, name(c"g")).unwrap();
    assert_eq!(first, second);
    copy::to_device(first, Host::of([1_u8; 16].as_ptr()), 16).unwrap();
    assert_eq!(copy::to_device(first, Host::of([1_u8; 17].as_ptr()), 17), Err(CuError::INVALID_VALUE));
    library::unload(loaded).unwrap();
    assert_eq!(copy::to_device(first, Host::of([1_u8; 16].as_ptr()), 16), Err(CuError::INVALID_VALUE));
}

#[test]
fn launch_attributes_are_obeyed_or_refused() {
    let (_, fake) = ready();
    let module_handle = load(b"entry k\0");
    let mut function = CUfunction::NULL;
    module::function(Out::to(&mut function), module_handle, name(c"k")).unwrap();
    let launch = |id, value| {
        let mut values = [0; 16];
        values[0] = value;
        let attribute = CUlaunchAttribute { id, pad: 0, value: values };
        let config = CUlaunchConfig {
            grid_dim_x: 2,
            grid_dim_y: 1,
            grid_dim_z: 1,
            block_dim_x: 32,
            block_dim_y: 1,
            block_dim_z: 1,
            shared_mem_bytes: 0,
            h_stream: CUstream::NULL,
            attrs: Host::of(&raw const attribute),
            num_attrs: 1,
        };
        launch::with_config(In::of(&config), function, Host::NULL, Host::NULL)
    };
    assert_eq!(launch(2, 1), Ok(()));
    assert!(fake.state.lock().launches[0].2.cooperative);
    assert_eq!(launch(6, 1), Ok(()), "a hint");
    assert_eq!(launch(13, 1), Err(CuError::NOT_SUPPORTED));
    assert_eq!(launch(99, 1), Err(CuError::NOT_SUPPORTED));
}

#[test]
fn old_launches_collect_their_parameters() {
    let (_, fake) = ready();
    let module_handle = load(b"entry k 4 8\0");
    let mut function = CUfunction::NULL;
    module::function(Out::to(&mut function), module_handle, name(c"k")).unwrap();
    launch::set_block_shape(function, 16, 2, 1).unwrap();
    launch::set_param_integer(function, 0, 3).unwrap();
    launch::set_param_bytes(function, 8, Host::of(9_u64.to_le_bytes().as_ptr()), 8).unwrap();
    assert_eq!(launch::set_param_integer(function, 13, 1), Err(CuError::INVALID_VALUE));
    launch::set_param_size(function, 16).unwrap();
    launch::legacy_grid(function, 4, 5).unwrap();
    let launches = &fake.state.lock().launches;
    assert_eq!((launches[0].2.grid, launches[0].2.block), ([4, 5, 1], [16, 2, 1]));
    assert_eq!(launches[0].3, [3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn linking_without_inputs_or_with_machine_code_fails() {
    ready();
    let mut state = CUlinkState::NULL;
    link::create(0, Host::NULL, Host::NULL, Out::to(&mut state)).unwrap();
    let complete = || link::complete(state, Out::to(&mut Host::NULL.clone()), Out::null());
    assert_eq!(complete(), Err(CuError::INVALID_VALUE));
    let elf = b"\x7fELF";
    let add = |kind, bytes: &[u8]| {
        let none = Host::NULL;
        link::add_data(state, kind, Host::of(bytes.as_ptr()), bytes.len(), name(c"in"), 0, none, none)
    };
    assert_eq!(add(0, elf), Err(CuError::NO_BINARY_FOR_GPU));
    assert_eq!(add(1, b"nonsense"), Err(CuError::INVALID_PTX));
    assert_eq!(add(99, elf), Err(CuError::INVALID_VALUE));
    link::destroy(state).unwrap();
    assert_eq!(link::destroy(state), Err(CuError::INVALID_HANDLE));
}

#[test]
fn streams_know_where_they_belong() {
    let (engine, _) = ready();
    let mut made = CUstream::NULL;
    stream::create_with_priority(Out::to(&mut made), 1, -9).unwrap();
    let (mut flags, mut priority, mut status, mut owner) = (0, 0, 9, CUcontext::NULL);
    stream::flags(made, Out::to(&mut flags)).unwrap();
    stream::priority(made, Out::to(&mut priority)).unwrap();
    stream::is_capturing(made, Out::to(&mut status)).unwrap();
    stream::context(made, Out::to(&mut owner)).unwrap();
    assert_eq!((flags, priority, status), (1, -5, 0));
    assert_eq!(owner.0 as u64, engine.current_handle().unwrap());
    assert_eq!(stream::create(Out::to(&mut made), 2), Err(CuError::INVALID_VALUE));
    assert_eq!(stream::synchronize(CUstream(0x5555)), Err(CuError::INVALID_HANDLE));
    let mut parts = std::mem::MaybeUninit::<CUdevResource>::zeroed();
    resource::of_stream(made, Host::of(parts.as_mut_ptr()).out(), 1).unwrap();
    let read: CUdevResource = Host::of(parts.as_ptr()).read().unwrap();
    assert_eq!(read.sm_count, 4);
}
