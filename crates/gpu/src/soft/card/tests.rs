use std::process::Command;

use super::*;

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tensor-fusion-test-{}-{name}", std::process::id()))
}

#[test]
fn memory_is_shared_exactly() {
    let path = path("memory");
    let first = Seat::take_at(path.clone(), 11).unwrap();
    let second = Seat::take_at(path.clone(), 22).unwrap();
    first.charge(600, 1000).unwrap();
    assert_eq!(second.charge(401, 1000), Err(CuError::OUT_OF_MEMORY));
    second.charge(400, 1000).unwrap();
    assert_eq!(first.charge(1, 1000), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(first.charge(u64::MAX, 1000), Err(CuError::OUT_OF_MEMORY));
    first.refund(600);
    second.count_context(true);
    let usage = first.usage().unwrap();
    assert_eq!(usage.used_memory, 400);
    assert_eq!(usage.processes, [ProcessUsage { pid: 22, used_memory: 400 }]);
    drop(second);
    assert_eq!(first.usage().unwrap(), DeviceUsage::default());
    drop(first);
    assert!(!path.exists(), "the last to leave removes the card");
}

/// Runs this test binary again as another process, which does what the test of that name does when it is the child.
fn child(test: &str, path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("CARD", path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = now();
    while !holds() {
        assert!(now() - start < 20_000_000_000, "{what}");
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "the other process of `a_killed_process_loses_its_memory_and_its_turn`"]
fn holds_everything_until_killed() {
    let Some(path) = std::env::var_os("CARD") else { return };
    let seat = Seat::take_at(path.into(), 33).unwrap();
    assert!(seat.acquire(&AtomicBool::new(false)));
    seat.charge(1000, 1000).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_loses_its_memory_and_its_turn() {
    let path = path("killed");
    let seat = Seat::take_at(path.clone(), 11).unwrap();
    let mut other = child("soft::card::tests::holds_everything_until_killed", &path);
    wait_for("the other process took the memory", || seat.usage().unwrap().used_memory == 1000);
    assert_eq!(seat.charge(1, 1000), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(seat.usage().unwrap().processes, [ProcessUsage { pid: 33, used_memory: 1000 }]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(seat.acquire(&AtomicBool::new(false)), "the turn of the dead is taken over");
    seat.release();
    seat.charge(1000, 1000).unwrap();
    drop(seat);
    assert!(!path.exists());
}

#[test]
fn turns_go_round_among_those_who_wait() {
    let path = path("turns");
    let seats: Vec<Seat> = (0..3).map(|pid| Seat::take_at(path.clone(), pid).unwrap()).collect();
    let (order, never) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    assert!(seats[0].acquire(&never));
    std::thread::scope(|scope| {
        for (index, seat) in seats.iter().enumerate().skip(1) {
            let (order, never) = (&order, &never);
            scope.spawn(move || {
                assert!(seat.acquire(never));
                order.lock().push(index);
                seat.release();
            });
        }
        wait_for("both wait", || seats[0].page().waiting[0].load(Ordering::SeqCst).count_ones() == 2);
        seats[0].release();
    });
    assert_eq!(*order.lock(), [1, 2]);
    assert!(!seats[0].contended());
    assert!(seats[0].usage().unwrap().gpu_utilization > 0);
}

#[test]
fn a_waiter_that_gives_up_does_not_keep_the_turn() {
    let path = path("give-up");
    let first = Seat::take_at(path.clone(), 1).unwrap();
    let second = Seat::take_at(path, 2).unwrap();
    assert!(first.acquire(&AtomicBool::new(false)));
    assert!(!second.acquire(&AtomicBool::new(true)));
    first.release();
    assert!(second.acquire(&AtomicBool::new(false)));
}
