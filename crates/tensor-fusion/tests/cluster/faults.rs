//! The operator dies at every step of its work: nothing is given twice, nothing is lost, and who waits is served by the next one.

use libtest_mimic::Failed;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, apply, create, kubectl, until};
use super::operators::{self, Operator};
use super::pods::{everything, holder, runs, which};
use super::{accounts, crowds, pods};

/// Has the operator die at a point.
type Death = fn(&str) -> Result<(), Failed>;

/// What comes by each point.
const DEATHS: [(&str, Death); 13] = [
    ("after-place", while_placing),
    ("before-bind", while_placing),
    ("after-bind", while_placing),
    ("before-release", while_releasing),
    ("after-release", while_releasing),
    ("after-connection", while_connecting),
    ("after-secret", while_connecting),
    ("before-lift", while_connecting),
    ("after-lift", while_connecting),
    ("before-evict", while_evicting),
    ("after-evict", while_evicting),
    ("before-preempt", while_preempting),
    ("after-preempt", while_preempting),
];

pub(crate) fn cases() -> Vec<Case> {
    let dies = |(point, death): (&'static str, Death)| {
        case(format!("faults::{}", point.replace('-', "_")), move || death(point)).with_own_operators()
    };
    let every = case("faults::every_point_is_tried", every_point_is_tried).without_system();
    DEATHS.into_iter().map(dies).chain([every]).collect()
}

fn every_point_is_tried() -> Result<(), Failed> {
    let missing: Vec<&&str> =
        operator::fault::POINTS.iter().filter(|point| !DEATHS.iter().any(|(tried, _)| tried == *point)).collect();
    assert!(missing.is_empty(), "no case lets the operator die at {missing:?}");
    Ok(())
}

/// An operator that leads and will die, and one that answers the webhook and takes over.
struct Pair {
    leader: Operator,
    standby: Operator,
}

impl Pair {
    /// The leader dies at this point, when it comes by after so many times.
    fn start(point: &str, pass: u32) -> Result<Self, String> {
        let pass = pass.to_string();
        let environment = [("TENSOR_FUSION_FAULT", point), ("TENSOR_FUSION_FAULT_SKIP", pass.as_str())];
        let leader = Operator::start(&format!("dies-{point}"), operators::free()?, &environment)?;
        leader.ready()?;
        leader.led(PATIENCE)?;
        let standby = Operator::start("standby", operators::port()?, &[])?;
        standby.ready()?;
        Ok(Self { leader, standby })
    }

    /// Waits for the leader's death; then the standby leads.
    fn succeeded(mut self) -> Result<Operator, String> {
        self.leader.aborted(accounts::nothing_twice)?;
        accounts::nothing_twice()?;
        operators::forget_leader()?;
        Ok(self.standby)
    }
}

/// Five pods that want half a GPU each, and there are four halves: one that leaked, or was given twice, shows.
fn five() -> Result<(), String> {
    let manifests: String =
        (1..=5).map(|number| holder(&format!("half-{number}"), "default", crowds::HALF, "")).collect();
    admitted(&manifests)
}

/// Makes pods; the API server may not have heard of a new certificate yet.
fn admitted(manifests: &str) -> Result<(), String> {
    until("the webhook takes pods", PATIENCE, || {
        // Those that were taken at an earlier try are there already.
        let others = |error: &str| error.lines().any(|line| line.contains("rror") && !line.contains("AlreadyExists"));
        create(manifests).or_else(|error| if others(&error) { Err(error) } else { Ok(()) })
    })
}

fn running(wanted: usize) -> Result<(), String> {
    let looked = until(&format!("{wanted} pods run"), PATIENCE, || {
        accounts::nothing_twice()?;
        match which("-n default", runs)?.len() {
            some if some == wanted => Ok(()),
            some => Err(format!("{some} run")),
        }
    });
    looked.map_err(|error| format!("{error}\n{}", everything("default", "half-1")))
}

fn settled(successor: &Operator) -> Result<(), String> {
    let outcome = running(4).and_then(|()| accounts::balanced()).and_then(|()| {
        kubectl("delete pods --all --now")?;
        accounts::all_free()
    });
    outcome.map_err(|error| successor.with_log(&error))
}

/// It dies with the second of five.
fn while_placing(point: &str) -> Result<(), Failed> {
    let pair = Pair::start(point, 1)?;
    five()?;
    settled(&pair.succeeded()?)?;
    Ok(())
}

fn while_releasing(point: &str) -> Result<(), Failed> {
    let pair = Pair::start(point, 0)?;
    five()?;
    running(4)?;
    let gone = which("-n default", runs)?.pop().ok_or("none runs")?;
    kubectl(&format!("delete pod {gone} --now"))?;
    // The fifth takes the place.
    settled(&pair.succeeded()?)?;
    Ok(())
}

fn while_connecting(point: &str) -> Result<(), Failed> {
    let pair = Pair::start(point, 0)?;
    let wish = format!("{}, tensor-fusion.ai/is-local-gpu: 'false'", crowds::HALF);
    admitted(&holder("client", "default", &wish, ""))?;
    let successor = pair.succeeded()?;
    let served = pods::running("default", "client").and_then(|_| {
        accounts::balanced()?;
        // One worker, one connection: nothing was made twice.
        for kind in ["pods -l tensor-fusion.ai/component=worker", "tensorfusionconnections", "tensorfusionworkloads"] {
            let names = kubectl(&format!("get {kind} -o name"))?;
            if names.lines().count() != 1 {
                return Err(format!("{kind}: {names}"));
            }
        }
        kubectl("delete pod client --now")?;
        accounts::all_free()
    });
    served.map_err(|error| successor.with_log(&error))?;
    Ok(())
}

/// A pod whose GPU is found and whose processors are not: the scheduler refuses it, and it is replaced.
fn while_evicting(point: &str) -> Result<(), Failed> {
    let pair = Pair::start(point, 0)?;
    let manifest = super::workloads::deployment(
        "greedy",
        1,
        1,
        "1Gi",
        "        resources: {requests: {cpu: '400'}}\n        command: [/bin/busybox, sleep, '3600']\n",
    );
    apply(&manifest)?;
    let victim = pods::with_label("default", "app=greedy")?;
    let successor = pair.succeeded()?;
    let replaced = until("another pod is there in its place", PATIENCE, || {
        let names = which("-l app=greedy", |pod| pod["metadata"]["deletionTimestamp"].is_null())?;
        match names.as_slice() {
            [one] if *one != victim => Ok(()),
            other => Err(format!("{other:?}, and the first was {victim}")),
        }
    });
    replaced.and_then(|()| accounts::balanced()).map_err(|error| successor.with_log(&error))?;
    kubectl("delete deployment greedy --cascade=foreground")?;
    accounts::all_free()?;
    Ok(())
}

/// A pod of a higher class needs a place, and whoever makes room for it dies in the middle.
fn while_preempting(point: &str) -> Result<(), Failed> {
    let pair = Pair::start(point, 0)?;
    until("the webhook takes pods", PATIENCE, || {
        create(&holder("probe", "default", "tensor-fusion.ai/vram-limit: 1Mi", ""))
    })?;
    kubectl("delete pod probe --now")?;
    crowds::low("")?;
    crowds::critical()?;
    let successor = pair.succeeded()?;
    let served = pods::running("default", "important").and_then(|_| running(4)).and_then(|()| accounts::balanced());
    served.map_err(|error| successor.with_log(&error))?;
    kubectl("delete pods --all --now")?;
    accounts::all_free()?;
    Ok(())
}
