//! Kernels through the driver's front door: PTX text in, bytes out.

use super::tests::{CONTEXT, DEVICE, LEGACY, Report, read, session};
use super::*;

const MODULE: ModuleId = ModuleId(1);

fn text(body: &str) -> String {
    format!(".version 8.0\n.target sm_75\n.address_size 64\n{body}\n")
}

/// c[i] = a[i] + b[i] for i < n.
fn vector_add() -> String {
    text(
        ".visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd1, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    add.s64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}",
    )
}

/// Stores `value` at `p`; traps, faults and the like come from what is asked.
fn misbehaving() -> String {
    text(
        ".visible .entry store(.param .u64 p, .param .u32 value)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [value];
    st.global.u32 [%rd1], %r1;
    ret;
}
.visible .entry stop()
{
    trap;
    ret;
}
.visible .entry forever()
{
LOOP:
    bra LOOP;
}",
    )
}

fn shape(blocks: u32, threads: u32) -> LaunchShape {
    LaunchShape { grid: [blocks, 1, 1], block: [threads, 1, 1], cluster: [1; 3], shared_bytes: 0, cooperative: false }
}

fn load(soft: &Soft, module: ModuleId, text: &str) -> ModuleLoad {
    let loaded = soft.module_load(CONTEXT, module, text.as_bytes()).unwrap();
    assert_eq!((loaded.status, loaded.log.as_str()), (0, ""));
    loaded
}

fn function(index: u32) -> FunctionId {
    FunctionId { module: MODULE, index }
}

fn params(addresses: &[u64], last: u32) -> Vec<u8> {
    let mut all: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
    all.extend_from_slice(&last.to_le_bytes());
    all
}

fn bytes_of(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

#[test]
fn a_vector_add_gives_the_sums() {
    let (soft, _) = session("add");
    let base = soft.info().addresses.base;
    const COUNT: usize = 100_003;
    let size = (COUNT * 4) as u64;
    let [a, b, c] = [base, base + size, base + 2 * size];
    soft.mem_map(DEVICE, base, 3 * size + 4).unwrap();
    let loaded = load(&soft, MODULE, &vector_add());
    let info = &loaded.info.functions[0];
    assert_eq!((info.name.as_str(), info.ptx_version, info.binary_version), ("add", 75, 120));
    assert_eq!(info.params.last(), Some(&cuda::ParamInfo { offset: 24, size: 4 }));
    let (left, right): (Vec<f32>, Vec<f32>) = (0..COUNT).map(|at| (at as f32 * 0.5, at as f32 * -0.25)).unzip();
    soft.copy_to_device(LEGACY, Region::linear(a, size), &bytes_of(&left)).unwrap();
    soft.copy_to_device(LEGACY, Region::linear(b, size), &bytes_of(&right)).unwrap();
    soft.fill(LEGACY, Region::linear(c, size + 4), 4, 0x7fc0_1234).unwrap();
    let blocks = COUNT.div_ceil(256) as u32;
    soft.launch(LEGACY, function(0), shape(blocks, 256), &params(&[a, b, c], COUNT as u32)).unwrap();
    let sums = read(&soft, LEGACY, c, size as usize + 4).unwrap();
    let mut expected: Vec<u8> =
        bytes_of(&left.iter().zip(&right).map(|(one, other)| one + other).collect::<Vec<f32>>());
    expected.extend_from_slice(&0x7fc0_1234_u32.to_le_bytes());
    assert!(sums == expected);
    assert!(soft.usage(DEVICE).unwrap().gpu_utilization > 0);
}

#[test]
fn the_ptx_of_a_compressed_fatbin_runs() {
    let (soft, _) = session("fatbin");
    let base = soft.info().addresses.base;
    soft.mem_map(DEVICE, base, 4).unwrap();
    let mut code = misbehaving().into_bytes();
    code.push(0);
    let size = code.len();
    let image = crate::image::tests::build(&[
        (2, 120, 0, vec![0; 8], 8),
        (1, 75, crate::image::fatbin::LZ4, lz4_flex::block::compress(&code), size),
    ]);
    let loaded = soft.module_load(CONTEXT, MODULE, &image).unwrap();
    assert_eq!(loaded.status, 0, "{}", loaded.log);
    soft.launch(LEGACY, function(0), shape(1, 1), &params(&[base], 77)).unwrap();
    assert_eq!(read(&soft, LEGACY, base, 4).unwrap(), [77, 0, 0, 0]);
}

#[test]
fn launches_of_impossible_shapes_are_refused() {
    let (soft, _) = session("shapes");
    load(&soft, MODULE, &vector_add());
    let all = params(&[0, 0, 0], 0);
    let launch = |shape: LaunchShape, params: &[u8]| soft.launch(LEGACY, function(0), shape, params);
    assert_eq!(launch(shape(0, 1), &all), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(shape(1, 1025), &all), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(LaunchShape { block: [1, 1, 65], ..shape(1, 1) }, &all), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(LaunchShape { grid: [1, 65536, 1], ..shape(1, 1) }, &all), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(LaunchShape { block: [32, 32, 2], ..shape(1, 1) }, &all), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(shape(1, 1), &all[..20]), Err(CuError::INVALID_VALUE));
    let much = LaunchShape { shared_bytes: 48 * 1024 + 1, ..shape(1, 1) };
    assert_eq!(launch(much, &all), Err(CuError::INVALID_VALUE));
    soft.function_set_attribute(function(0), 8, 99 * 1024).unwrap();
    assert_eq!(soft.function_set_attribute(function(0), 8, 100 * 1024), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(much, &all), Ok(()));
    let crowd = LaunchShape { cooperative: true, ..shape(1 << 20, 32) };
    assert_eq!(launch(crowd, &all), Err(CuError::COOPERATIVE_LAUNCH_TOO_LARGE));
    assert_eq!(soft.launch(LEGACY, function(1), shape(1, 1), &all), Err(CuError::INVALID_HANDLE));
    soft.module_unload(MODULE).unwrap();
    assert_eq!(launch(shape(1, 1), &all), Err(CuError::INVALID_HANDLE));
    soft.context_synchronize(CONTEXT).unwrap();
}

#[test]
fn a_fault_is_sticky_and_hurts_nobody_else() {
    let (soft, _) = session("fault");
    let (other, _) = session("fault");
    let base = other.info().addresses.base;
    other.mem_map(DEVICE, base, 64).unwrap();
    load(&soft, MODULE, &misbehaving());
    load(&other, MODULE, &misbehaving());
    let unmapped = soft.info().addresses.base + (512 << 20);
    soft.launch(LEGACY, function(0), shape(1, 1), &params(&[unmapped], 1)).unwrap();
    assert_eq!(soft.context_synchronize(CONTEXT), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(soft.stream_query(LEGACY), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(soft.mem_map(DEVICE, unmapped, 4), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(soft.launch(LEGACY, function(0), shape(1, 1), &params(&[base], 1)), Err(CuError::ILLEGAL_ADDRESS));
    other.launch(LEGACY, function(0), shape(1, 1), &params(&[base], 5)).unwrap();
    assert_eq!(read(&other, LEGACY, base, 4).unwrap(), [5, 0, 0, 0]);
}

#[test]
fn each_way_to_fail_has_its_code() {
    for (name, index, address, code) in [
        ("null", 0, 0, CuError::ILLEGAL_ADDRESS),
        ("host", 0, &raw const CODE as u64, CuError::ILLEGAL_ADDRESS),
        ("misaligned", 0, 2, CuError::MISALIGNED_ADDRESS),
        ("trap", 1, 0, CuError::LAUNCH_FAILED),
    ] {
        let (soft, _) = session(name);
        let base = soft.info().addresses.base;
        soft.mem_map(DEVICE, base, 64).unwrap();
        load(&soft, MODULE, &misbehaving());
        let address = if name == "misaligned" { base + address } else { address };
        soft.launch(LEGACY, function(index), shape(1, 1), &params(&[address], 1)).unwrap();
        assert_eq!(soft.stream_synchronize(LEGACY), Err(code), "{name}");
    }
}
static CODE: u32 = 0;

#[test]
fn malformed_text_is_refused_with_line_and_column() {
    let (soft, _) = session("malformed");
    let loaded =
        soft.module_load(CONTEXT, MODULE, text(".visible .entry k() {\n  frobnicate.u32 %r1;\n}").as_bytes()).unwrap();
    assert_eq!(loaded.status, CuError::INVALID_PTX.code());
    assert!(loaded.log.contains("5:3"), "{}", loaded.log);
    let newer = soft.module_load(CONTEXT, MODULE, vector_add().replace("sm_75", "sm_121").as_bytes()).unwrap();
    assert_eq!(newer.status, CuError::INVALID_PTX.code());
    assert!(newer.log.contains("sm_121") && newer.log.contains("sm_120"), "{}", newer.log);
}

#[test]
fn variables_have_addresses_values_and_a_price() {
    let (soft, _) = session("variables");
    let code = text(
        ".visible .global .align 4 .u32 counter = 41;
.visible .global .align 8 .u64 link = counter;
.visible .const .align 4 .b8 table[1000] = {1, 2, 3};
.visible .entry bump()
{
    .reg .b32 %r<3>;
    ld.global.u32 %r1, [counter];
    add.u32 %r2, %r1, 1;
    st.global.u32 [counter], %r2;
    ret;
}",
    );
    let loaded = load(&soft, MODULE, &code);
    let global = |name: &str| loaded.info.globals.iter().find(|global| global.name == name).unwrap();
    assert_eq!(soft.usage(DEVICE).unwrap().used_memory, 1012);
    let counter = global("counter").address;
    assert_eq!(read(&soft, LEGACY, global("link").address, 8).unwrap(), counter.to_le_bytes());
    assert_eq!(read(&soft, LEGACY, global("table").address, 4).unwrap(), [1, 2, 3, 0]);
    assert_eq!(global("table").size, 1000);
    soft.launch(LEGACY, function(0), shape(1, 1), &[]).unwrap();
    assert_eq!(read(&soft, LEGACY, counter, 4).unwrap(), [42, 0, 0, 0]);
    let again = load(&soft, ModuleId(2), &code);
    assert_ne!(again.info.globals[0].address, loaded.info.globals[0].address);
    assert_eq!(read(&soft, LEGACY, again.info.globals[0].address, 4).unwrap(), [41, 0, 0, 0]);
    soft.module_unload(ModuleId(2)).unwrap();
    soft.module_unload(MODULE).unwrap();
    assert_eq!(soft.usage(DEVICE).unwrap().used_memory, 0);
    assert_eq!(read(&soft, LEGACY, counter, 4), Err(CuError::INVALID_VALUE));
}

#[test]
fn variables_lie_at_multiples_of_what_they_ask_for() {
    let (soft, _) = session("alignment");
    for align in [64u64, 256, 1024, 4096] {
        // Each thread adds its bits of all three addresses that must be none.
        let code = text(&format!(
            ".visible .global .align 8 .u64 crooked = 0;
.visible .entry look()
{{
    .reg .b64 %a<8>;
    .shared .align 4 .b8 first[4];
    .shared .align {align} .b8 shared[300];
    .local .align 1 .b8 before[1];
    .local .align {align} .b8 own[100];
    mov.u64 %a1, shared; cvta.shared.u64 %a1, %a1;
    mov.u64 %a2, own; cvta.local.u64 %a2, %a2;
    or.b64 %a3, %a1, %a2;
    and.b64 %a3, %a3, {};
    mov.u64 %a4, crooked; cvta.global.u64 %a4, %a4;
    atom.or.b64 %a5, [%a4], %a3;
    ret;
}}",
            align - 1
        ));
        let loaded = load(&soft, MODULE, &code);
        let crooked = loaded.info.globals.iter().find(|global| global.name == "crooked").unwrap().address;
        soft.launch(LEGACY, function(0), shape(3, 96), &[]).unwrap();
        assert_eq!(read(&soft, LEGACY, crooked, 8).unwrap(), [0; 8], "{align}");
        soft.module_unload(MODULE).unwrap();
    }
    let beyond = text(".visible .entry look() { .reg .b64 %a<2>; .shared .align 8192 .b8 s[4]; mov.u64 %a1, s; ret; }");
    let loaded = soft.module_load(CONTEXT, MODULE, beyond.as_bytes()).unwrap();
    assert!(loaded.log.contains("alignments beyond 4096 bytes are not supported"), "{}", loaded.log);
}

#[test]
fn a_wider_register_gives_its_low_bits() {
    let (soft, _) = session("wider");
    // The parameter of the function, the conversions and the store take less than the register holds, which is not the same in
    // all lanes.
    let code = text(
        ".func (.param .b32 r) twice(.param .b32 x) {
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [x]; add.u32 %r2, %r1, %r1; st.param.b32 [r], %r2; ret;
}
.visible .entry low(.param .u64 out)
{
    .reg .b16 %h<3>; .reg .b32 %r<9>; .reg .b64 %a<9>;
    ld.param.u64 %a1, [out];
    mov.u32 %r1, %tid.x;
    cvt.u64.u32 %a2, %r1;
    mul.wide.u32 %a8, %r1, 16;
    add.u64 %a1, %a1, %a8;
    mad.lo.u64 %a2, %a2, 4294967299, 1099511627776;
    { .param .b32 p; .param .b32 q;
      st.param.b32 [p], %a2; call.uni (q), twice, (p); ld.param.b32 %r2, [q]; }
    cvt.u32.u32 %r3, %a2;
    cvt.s64.s32 %a3, %a2;
    cvt.u32.u64 %r4, %a3;
    cvt.u16.u8 %h1, %a2;
    cvt.u32.u16 %r5, %h1;
    st.global.u32 [%a1], %r2;
    st.global.u32 [%a1+4], %r3;
    st.global.u32 [%a1+8], %r4;
    st.global.u32 [%a1+12], %r5;
    ret;
}",
    );
    load(&soft, MODULE, &code);
    let out = soft.info().addresses.base;
    soft.mem_map(DEVICE, out, 64 * 16).unwrap();
    soft.launch(LEGACY, function(0), shape(1, 64), &out.to_le_bytes()).unwrap();
    let words = read(&soft, LEGACY, out, 64 * 16).unwrap();
    let words: Vec<u32> = words.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    for (thread, words) in (0_u32..).zip(words.chunks_exact(4)) {
        assert_eq!(words, [6 * thread, 3 * thread, 3 * thread, 3 * thread], "{thread}");
    }
}

#[test]
fn a_result_that_another_unit_does_not_give_is_zero() {
    let (soft, _) = session("units");
    let caller = text(
        ".extern .func (.param .b32 r) put(.param .b64 to, .param .b32 value);
.visible .entry call_it(.param .u64 out)
{
    .reg .b32 %r<3>; .reg .b64 %a<2>;
    ld.param.u64 %a1, [out];
    mov.u32 %r1, 7;
    { .param .b64 p; .param .b32 v; .param .b32 q;
      st.param.b64 [p], %a1; st.param.b32 [v], %r1; call.uni (q), put, (p, v); ld.param.b32 %r2, [q]; }
    st.global.u32 [%a1+4], %r2;
    ret;
}",
    );
    let callee = ".visible .func put(.param .b64 to, .param .b32 value)
{ .reg .b32 %r<2>; .reg .b64 %a<2>; ld.param.b64 %a1, [to]; ld.param.b32 %r1, [value]; st.u32 [%a1], %r1; ret; }";
    load(&soft, MODULE, &format!("{caller}{}", text(callee)));
    let out = soft.info().addresses.base;
    soft.mem_map(DEVICE, out, 8).unwrap();
    soft.launch(LEGACY, function(0), shape(1, 1), &out.to_le_bytes()).unwrap();
    assert_eq!(read(&soft, LEGACY, out, 8).unwrap(), [7, 0, 0, 0, 0, 0, 0, 0]);
    let one = caller.replace(".extern .func (.param .b32 r) put(.param .b64 to, .param .b32 value);", callee);
    let refused = soft.module_load(CONTEXT, ModuleId(2), one.as_bytes()).unwrap();
    assert!(
        refused.log.contains("`put` is called with 2 arguments and 1 results: expected 2 and 0"),
        "{}",
        refused.log
    );
}

#[test]
fn dropping_a_session_stops_an_endless_kernel() {
    let (soft, _) = session("endless");
    load(&soft, MODULE, &misbehaving());
    soft.launch(LEGACY, function(2), shape(4, 32), &[]).unwrap();
    assert!(!soft.stream_query(LEGACY).unwrap());
    drop(soft);
}

#[test]
fn two_sessions_take_turns_on_one_device() {
    let pair = [session("turns"), session("turns")];
    std::thread::scope(|scope| {
        for (soft, _) in &pair {
            scope.spawn(move || {
                let base = soft.info().addresses.base;
                let size = 4 << 20;
                soft.mem_map(DEVICE, base, size).unwrap();
                soft.fill(LEGACY, Region::linear(base, size), 4, 1.0_f32.to_bits()).unwrap();
                load(soft, MODULE, &vector_add());
                let count = (size / 4) as u32;
                let all = params(&[base, base, base], count);
                for _ in 0..5 {
                    soft.launch(LEGACY, function(0), shape(count / 256, 256), &all).unwrap();
                }
                let sums = read(soft, LEGACY, base, size as usize).unwrap();
                assert!(sums.chunks_exact(4).all(|sum| sum == 32.0_f32.to_le_bytes()));
            });
        }
    });
}

#[test]
fn an_idle_session_never_keeps_the_turn() {
    let pair = [session("idle"), session("idle")];
    for (soft, _) in &pair {
        soft.mem_map(DEVICE, soft.info().addresses.base, 4096).unwrap();
        load(soft, MODULE, &vector_add());
    }
    for round in 0..200_u32 {
        let (soft, _) = &pair[round as usize % 2];
        let base = soft.info().addresses.base;
        // Few small blocks: executors and the waiting thread race for the last ones.
        soft.launch(LEGACY, function(0), shape(2 + round % 7, 32), &params(&[base, base, base], 1)).unwrap();
        soft.stream_synchronize(LEGACY).unwrap();
        assert_eq!(soft.usage(DEVICE).unwrap().processes.len(), 1);
    }
}

#[test]
fn printed_text_is_there_after_synchronizing() {
    let (soft, report): (Arc<Soft>, Arc<Report>) = session("print");
    let code = text(
        ".extern .func (.param .b32 result) vprintf (.param .b64 format, .param .b64 arguments);
.global .align 1 .b8 format[8] = {110, 61, 37, 100, 10, 0};
.visible .entry say(.param .u32 n)
{
    .local .align 8 .b8 depot[8];
    .reg .b32 %r<3>;
    .reg .b64 %rd<6>;
    mov.u64 %rd1, depot;
    cvta.local.u64 %rd2, %rd1;
    ld.param.u32 %r1, [n];
    st.local.u32 [%rd1], %r1;
    mov.u64 %rd3, format;
    cvta.global.u64 %rd4, %rd3;
    {
        .param .b64 one;
        st.param.b64 [one], %rd4;
        .param .b64 two;
        st.param.b64 [two], %rd2;
        .param .b32 back;
        call.uni (back), vprintf, (one, two);
        ld.param.b32 %r2, [back];
    }
    ret;
}",
    );
    load(&soft, MODULE, &code);
    soft.launch(LEGACY, function(0), shape(1, 1), &7_u32.to_le_bytes()).unwrap();
    soft.context_synchronize(CONTEXT).unwrap();
    assert_eq!(String::from_utf8_lossy(&report.text.lock()), "n=7\n");
}

#[test]
#[ignore = "prints times; run by hand"]
fn how_long_things_take() {
    let (soft, _) = session("times");
    let base = soft.info().addresses.base;
    soft.mem_map(DEVICE, base, 4096).unwrap();
    load(&soft, MODULE, &misbehaving());
    let all = params(&[base], 1);
    let time = |name: &str, count: u32, run: &dyn Fn()| {
        run();
        let start = std::time::Instant::now();
        for _ in 0..count {
            run();
        }
        eprintln!("{name}: {:.2} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    };
    time("launch and synchronize", 20_000, &|| {
        soft.launch(LEGACY, function(0), shape(1, 1), &all).unwrap();
        soft.stream_synchronize(LEGACY).unwrap();
    });
    time("launch", 20_000, &|| soft.launch(LEGACY, function(0), shape(1, 1), &all).unwrap());
    time("synchronize what is left", 1, &|| soft.stream_synchronize(LEGACY).unwrap());
    time("copy of 4 bytes to the device", 20_000, &|| {
        soft.copy_to_device(LEGACY, Region::linear(base, 4), &[1; 4]).unwrap();
    });
    time("copy of 4 bytes to the host", 20_000, &|| drop(read(&soft, LEGACY, base, 4).unwrap()));
    time("map and unmap 1 MiB", 5_000, &|| {
        soft.mem_map(DEVICE, base + (1 << 20), 1 << 20).unwrap();
        soft.mem_unmap(DEVICE, base + (1 << 20)).unwrap();
    });
}
