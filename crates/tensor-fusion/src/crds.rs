//! `tensor-fusion crds`: the definitions of our Kubernetes kinds, for `kubectl apply -f -`.

use std::process::ExitCode;

use clap::Args;

use crate::{failure::Failed, failure::Outcome, print};

/// Print the definitions of the Kubernetes custom resources.
///
/// `tensor-fusion crds | kubectl apply --server-side -f -` installs them without the chart.
#[derive(Debug, Args)]
pub(crate) struct Crds {}

impl Crds {
    #[expect(clippy::unused_self, reason = "every command is called alike")]
    pub(crate) fn main(self, as_json: bool) -> Outcome {
        let definitions = crd::definitions();
        if as_json {
            print::json(&definitions)?;
            return Ok(ExitCode::SUCCESS);
        }
        for definition in &definitions {
            let text = serde_yaml_ng::to_string(definition).map_err(Failed::new)?;
            print::text(&format!("---\n{text}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
