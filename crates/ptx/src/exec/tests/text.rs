//! PTX text that compilers made, compiled and run.

#![expect(clippy::needless_range_loop, reason = "threads are numbers that index several things")]

use super::*;

fn cases() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut all: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ptx"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_case_compiles_for_every_class_of_shapes() {
    let memory = Memory::new(1 << 16);
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, text) in cases() {
        let module = match crate::load(&text) {
            Ok(module) => Arc::new(module),
            Err(e) => panic!("{name}: {e:?}"),
        };
        let addresses = vec![memory.address(0); module.variables.len()];
        let program = Program::new(Arc::clone(&module), addresses, memory.window()).unwrap();
        for (i, kernel) in module.kernels.iter().enumerate() {
            for block in [[64, 1, 1], [100, 1, 1], [16, 4, 1], [8, 8, 1], [5, 3, 2]] {
                let block = if kernel.required_block[0] != 0 { kernel.required_block } else { block };
                let params = vec![0; kernel.param_bytes as usize];
                count += 1;
                if let Err(e) = program.prepare(i, shape([1; 3], block), &params, 1) {
                    failures.push(format!("{name}: {}: {e}", kernel.name));
                }
            }
        }
    }
    assert!(count > 50);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a kernel of a case file with one block.
fn run(
    case: &str,
    kernel: &str,
    memory: &Memory,
    threads: u32,
    args: &[u8],
    surroundings: &Surroundings,
) -> Result<(), Trap> {
    let (_, text) = cases().into_iter().find(|(name, _)| name == case).unwrap();
    let module = crate::load(&text).unwrap();
    // Variables from 64 KiB on, with their initial bytes and addresses.
    let mut at = 65536;
    let mut addresses = Vec::new();
    for v in &module.variables {
        at = (at as u64).next_multiple_of(v.align.max(16)) as usize;
        memory.slice::<u8>(at, v.bytes.len()).copy_from_slice(&v.bytes);
        addresses.push(memory.address(at));
        at += v.size as usize;
    }
    for (v, place) in module.variables.iter().zip(&addresses) {
        for r in &v.relocations {
            let value = addresses[r.variable as usize].wrapping_add_signed(r.addend);
            let offset = (place - memory.address(0) + r.offset) as usize;
            memory.slice::<u64>(offset, 1)[0] = value;
        }
    }
    let program = Program::new(Arc::new(module), addresses, memory.window()).unwrap();
    let index = program.kernel_index(kernel).unwrap();
    let launch = program.prepare(index, shape([1; 3], [threads, 1, 1]), args, 1).unwrap();
    launch.run(0..1, &mut memory.scratch(), surroundings)
}

#[test]
fn lanes_of_a_warp_see_one_another() {
    let memory = Memory::new(1 << 20);
    let input = memory.slice::<i32>(0, 64);
    for (i, v) in input.iter_mut().enumerate() {
        *v = (i as i32 * 7) % 12 - 2;
    }
    let args = params(&[memory.address(0), memory.address(4096)]);
    run("warp", "lanes", &memory, 64, &args, &Surroundings::default()).unwrap();
    let out = memory.slice::<i32>(4096, 64);
    for i in 0..64 {
        let (w, l) = (i / 32 * 32, i % 32);
        let x = |lane: usize| input[w + lane];
        let all = || (0..32).map(x);
        let me = x(l);
        let mut r = x(l ^ 3) + x(if l >= 2 { l - 2 } else { l });
        r += x(l ^ 8) + x(if l % 8 < 7 { l + 1 } else { l });
        let ballot = all().enumerate().fold(0u32, |m, (i, v)| m | u32::from(v > 3) << i);
        r = r.wrapping_add(ballot as i32);
        r += i32::from(all().all(|v| v > 0)) + i32::from(all().any(|v| v > 9));
        r += all().sum::<i32>() + all().max().unwrap() + all().fold(0, |a, v| a ^ v);
        let same = all().enumerate().fold(0u32, |m, (i, v)| m | u32::from(v == me) << i);
        r = r.wrapping_add(same as i32);
        let equal = all().all(|v| v == me);
        r = r.wrapping_add(if equal { -1 } else { 0 }) + i32::from(equal);
        if i & 1 == 1 {
            r += 16;
        }
        assert_eq!(out[i], r, "thread {i}");
    }
}

#[test]
fn barriers_count_and_join_predicates() {
    let memory = Memory::new(1 << 20);
    let input = memory.slice::<i32>(0, 96);
    for (i, v) in input.iter_mut().enumerate() {
        *v = i as i32 % 5;
    }
    let args = params(&[memory.address(0), memory.address(4096)]);
    run("warp", "counts", &memory, 96, &args, &Surroundings::default()).unwrap();
    let count = input.iter().filter(|v| **v > 0).count() as i32;
    assert!(memory.slice::<i32>(4096, 96).iter().all(|v| *v == count), "{:?}", memory.slice::<i32>(4096, 4));
}

#[test]
fn atomics_add_up() {
    let memory = Memory::new(1 << 20);
    let (i, u) = (memory.slice::<i32>(0, 256), memory.slice::<u32>(4096, 8));
    i[2] = 5;
    u[2] = u32::MAX;
    let args = params(&[0, 4096, 8192, 8448, 12288].map(|o| memory.address(o)));
    run("warp", "atomics", &memory, 64, &args, &Surroundings::default()).unwrap();
    assert_eq!(i[..4], [64, -128, 0, 63]);
    assert_eq!(i[200], 64);
    assert_eq!(i[4], 99);
    assert_eq!(u[0], 64 % 11);
    assert_eq!(u[2..5], [0, 63, (0..64).fold(0, |a, t| a ^ t)]);
    assert_eq!(memory.slice::<f32>(8192, 1)[0], 96.0);
    assert_eq!(memory.slice::<f64>(8448, 1)[0], 160.0);
    assert_eq!(memory.slice::<u64>(12288, 2), [192, 63]);
}

#[test]
fn tiles_and_pipelines_move_values() {
    let memory = Memory::new(1 << 20);
    let input = memory.slice::<i32>(0, 64);
    (0..64).for_each(|i| input[i] = 1 << (i % 16));
    let args = params(&[memory.address(0), memory.address(4096)]);
    run("warp", "groups", &memory, 64, &args, &Surroundings::default()).unwrap();
    let out = memory.slice::<i32>(4096, 64);
    for tile in 0..8 {
        let sum: i32 = input[8 * tile..8 * tile + 8].iter().sum();
        assert_eq!(out[8 * tile], sum + 32 + tile as i32);
    }
    let data = memory.slice::<f32>(0, 256);
    (0..256).for_each(|i| data[i] = i as f32);
    run("warp", "pipeline", &memory, 64, &args, &Surroundings::default()).unwrap();
    let out = memory.slice::<f32>(4096, 256);
    for i in 0..64 {
        assert_eq!(out[4 * i..4 * i + 4], data[4 * (63 - i)..4 * (63 - i) + 4]);
    }
}

#[test]
fn control_flow_of_every_kind_arrives() {
    let memory = Memory::new(1 << 20);
    let out = memory.slice::<f32>(0, 64);
    let mut args = params(&[memory.address(0)]);
    args.extend(5u32.to_le_bytes());
    run("control", "calls", &memory, 64, &args, &Surroundings::default()).unwrap();
    for i in 0..64usize {
        let tag = i as i32 + 1;
        let (x, y) = (i as f64 + 0.5, f64::from((2.0 * i as f64) as f32 * tag as f32 + 1.0));
        let mut r = (x + y + 3.0) as f32 + tag as f32 + ((i & 7) * 8) as f32;
        if i % 3 == 0 {
            r = r * 5.0 + 1.0;
        }
        assert_eq!(out[i], r, "calls, thread {i}");
    }
    run("control", "virtuals", &memory, 64, &params(&[memory.address(0)]), &Surroundings::default()).unwrap();
    for i in 0..64 {
        let x = i as f32;
        assert_eq!(out[i], if i & 1 == 0 { x * x } else { 3.0 * x * x }, "virtuals, thread {i}");
    }
    run("control", "pointers", &memory, 64, &params(&[memory.address(0)]), &Surroundings::default()).unwrap();
    for (i, v) in memory.slice::<i32>(0, 64).iter().enumerate() {
        let i = i as i32;
        assert_eq!(*v, if i & 1 == 0 { i + 3 } else { i * 3 }, "pointers, thread {i}");
    }
    let (input, out) = (memory.slice::<i32>(4096, 64), memory.slice::<i32>(8192, 64));
    (0..64).for_each(|i| input[i] = i as i32 % 9);
    out.fill(70);
    run(
        "control",
        "switches",
        &memory,
        64,
        &params(&[memory.address(4096), memory.address(8192)]),
        &Surroundings::default(),
    )
    .unwrap();
    // Threads 0 to 3 write what others read, all in one warp or the next: only what reads nothing is sure.
    for i in 4..64 {
        match input[i] {
            0 => assert_eq!(out[i], 11),
            3 => assert_eq!(out[i], 5),
            6 => assert_eq!(out[i], 70),
            7 => assert_eq!(out[i], -1),
            8 => assert_eq!(out[i], 1000),
            _ => {}
        }
    }
}

#[test]
fn kernels_print_and_assert() {
    let memory = Memory::new(1 << 20);
    let surroundings = Surroundings::default();
    run("control", "prints", &memory, 32, &2u32.to_le_bytes(), &surroundings).unwrap();
    let text = String::from_utf8(surroundings.printed.lock().clone()).unwrap();
    assert_eq!(text, "thread 0 of block: 0.000000\nthread 1 of block: 1.500000\n");
    let trap = run("control", "prints", &memory, 32, &200u32.to_le_bytes(), &surroundings).unwrap_err();
    assert_eq!(trap.kind, TrapKind::Assert);
    assert!(trap.message.ends_with("block: [0,0,0], thread: [0,0,0] Assertion `n < 100` failed."), "{}", trap.message);
}

#[test]
fn doubles_become_integers() {
    let op = |to, from, rounding| Op::Cvt {
        to,
        from,
        modifiers: Modifiers { rounding, ..Modifiers::default() },
        d: Reg(0),
        a: imm(0),
    };
    let one = |op: Op, v: f64| scalar::evaluate(&op, &[v.to_bits()])[0] as u32 as i32;
    assert_eq!(one(op(Type::S32, Type::F64, Rounding::Rzi), 40.25), 40);
    assert_eq!(one(op(Type::S32, Type::F64, Rounding::Rzi), -40.75), -40);
    assert_eq!(one(op(Type::S32, Type::F64, Rounding::Rpi), -40.75), -40);
    assert_eq!(one(op(Type::S32, Type::F64, Rounding::Rni), 41.5), 42);
    assert_eq!(one(op(Type::S32, Type::F64, Rounding::Rzi), 1e20), i32::MAX);
    let memory = Memory::new(1 << 20);
    let mut args: Vec<u8> = (0..12u32).flat_map(|i| (11 * i).to_le_bytes()).collect();
    args.extend(1.5f32.to_le_bytes());
    args.extend([0; 4]);
    args.extend(40.25f64.to_le_bytes());
    args.extend([9, 8, 7, 6, 5, 0, 0, 0]);
    args.extend(memory.address(0).to_le_bytes());
    args.extend(3u32.to_le_bytes());
    run("memory", "by_value", &memory, 8, &args, &Surroundings::default()).unwrap();
    let out = memory.slice::<i32>(0, 8);
    assert_eq!(out, [79, 90, 101, 112, 123, 134, 145, 156]);
}
