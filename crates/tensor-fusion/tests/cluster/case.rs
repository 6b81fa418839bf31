//! A test on the cluster: what it takes, and what is put right before it runs.
//!
//! All share one installation and run in order, so each starts from a cluster without what those before have left behind: one that
//! fails, fails alone.

use libtest_mimic::{Failed, Trial};

use super::kubernetes::{kubectl, without_nodes, without_python};
use super::operators::{self, Place};

/// What a case does.
type Run = Box<dyn FnOnce() -> Result<(), Failed> + Send>;

/// A test.
pub(crate) struct Case {
    name: String,
    run: Run,
    nodes: bool,
    python: bool,
    operators: Option<Place>,
}

/// A case of the installed system. An API server, controllers and a scheduler are enough for it.
pub(crate) fn case(name: impl Into<String>, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Case {
    let (name, run) = (name.into(), Box::new(run));
    Case { name, run, nodes: false, python: false, operators: Some(Place::Installed) }
}

impl Case {
    /// Programs run in pods, so it takes real nodes.
    pub(crate) fn on_nodes(self) -> Self {
        Self { nodes: true, ..self }
    }

    /// Programs of Python run in pods.
    pub(crate) fn with_python(self) -> Self {
        Self { python: true, ..self.on_nodes() }
    }

    /// It starts operators of its own, in place of the installed ones.
    pub(crate) fn with_own_operators(self) -> Self {
        Self { operators: Some(Place::Own), ..self }
    }

    /// It asks nothing of the system, which need not be there.
    pub(crate) fn without_system(self) -> Self {
        Self { operators: None, ..self }
    }

    /// As the test runner wants it; shown as ignored where the cluster lacks what it takes.
    pub(crate) fn trial(self) -> Trial {
        let Self { name, run, nodes, python, operators } = self;
        let ignored = nodes && without_nodes().is_some() || python && without_python().is_some();
        let trial = Trial::test(name, move || {
            if let Some(place) = operators {
                clean()?;
                operators::put(place)?;
            }
            run()
        });
        trial.with_ignored_flag(ignored)
    }
}

/// Removes what cases make.
fn clean() -> Result<(), String> {
    let all = "jobs,deployments,replicasets,tensorfusionworkloads,pods,gpuresourcequotas,workloadprofiles,poddisruptionbudgets";
    for namespace in ["default", OTHER] {
        // Before the first installation some kinds are unknown, and there is nothing of them.
        let known = kubectl("get crd gpuresourcequotas.tensor-fusion.ai workloadprofiles.tensor-fusion.ai").is_ok();
        let kinds = if known { all } else { "jobs,deployments,replicasets,pods" };
        kubectl(&format!("delete {kinds} --all -n {namespace} --cascade=foreground --timeout=90s"))?;
    }
    Ok(())
}

/// A second namespace, for cases in which one may not touch the other.
pub(crate) const OTHER: &str = "other";
