//! Clocks that differ: one operator leads, whatever the time is to each and whatever a lease says.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;

use super::case::{Case, case};
use super::kubernetes::{SYSTEM, create, until};
use super::operators::{self, Operator};
use super::{accounts, pods};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("clocks::operators_hours_apart_agree_who_leads", operators_hours_apart_agree_who_leads)
            .with_own_operators(),
        case("clocks::a_lease_from_the_future_runs_out", a_lease_from_the_future_runs_out).with_own_operators(),
    ]
}

/// A lease runs out after 20 s; a busy machine takes its time.
const SUCCESSION: Duration = Duration::from_secs(90);

/// A library that shifts the wall clock of the program that loads it, as a machine without NTP does. Durations stay what they are.
const SKEW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <sys/time.h>

static long skew(void) { const char *text = getenv("TENSOR_FUSION_TEST_SKEW"); return text ? atol(text) : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(clock, now);
    if (outcome == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += skew();
    return outcome;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    int outcome = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return outcome;
}

time_t time(time_t *place) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (place) *place = precise.tv_sec;
    return precise.tv_sec;
}
"#;

fn library() -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, library) = (folder.join("skew.c"), folder.join("libskew.so"));
    std::fs::write(&source, SKEW).map_err(|error| error.to_string())?;
    let mut command = Command::new("gcc");
    command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = command.output().map_err(|error| format!("gcc: {error}"))?;
    if output.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn skewed(name: &str, webhook: u16, seconds: i64) -> Result<Operator, String> {
    let library = library()?.display().to_string();
    let operator =
        Operator::start(name, webhook, &[("LD_PRELOAD", &library), ("TENSOR_FUSION_TEST_SKEW", &seconds.to_string())])?;
    operator.ready()?;
    Ok(operator)
}

fn served(name: &str) -> Result<(), String> {
    let wish = "tensor-fusion.ai/vram-limit: 1Gi, tensor-fusion.ai/tflops-limit: '1'";
    // The API server may not have heard of a new certificate yet.
    until("the webhook takes a pod", SUCCESSION, || create(&pods::holder(name, "default", wish, "")))?;
    pods::running("default", name)?;
    accounts::balanced()
}

fn operators_hours_apart_agree_who_leads() -> Result<(), Failed> {
    let hours = 3600;
    let fast = skewed("three-hours-ahead", operators::port()?, 3 * hours)?;
    fast.led(SUCCESSION)?;
    let slow = skewed("three-hours-behind", operators::free()?, -3 * hours)?;
    // Longer than a lease lasts: whoever judged it by its own clock would have taken it by now.
    for _ in 0..50 {
        assert!(fast.leads(), "{}", fast.with_log("the leader was deposed by a clock"));
        assert!(!slow.leads(), "{}", slow.with_log("two lead"));
        std::thread::sleep(Duration::from_millis(500));
    }
    served("ahead")?;
    drop(fast);
    slow.led(SUCCESSION)?;
    // The webhook's port was the other's.
    drop(slow);
    operators::forget_leader()?;
    let slow = skewed("three-hours-behind", operators::port()?, -3 * hours)?;
    slow.led(SUCCESSION)?;
    served("behind").map_err(|error| slow.with_log(&error))?;
    Ok(())
}

fn a_lease_from_the_future_runs_out() -> Result<(), Failed> {
    create(&format!(
        "apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: tensor-fusion-operator, namespace: {SYSTEM}}}
spec:
  holderIdentity: nobody
  leaseDurationSeconds: 20
  acquireTime: '2099-01-01T00:00:00.000000Z'
  renewTime: '2099-01-01T00:00:00.000000Z'
  leaseTransitions: 7
"
    ))?;
    let operator = Operator::start("patient", operators::port()?, &[])?;
    operator.ready()?;
    operator.led(SUCCESSION)?;
    served("after-the-future").map_err(|error| operator.with_log(&error))?;
    Ok(())
}
