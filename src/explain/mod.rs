//! `--explain`: the plan as a shell script that does the same.
//!
//! The words of each line are computed from the fields that the system call
//! uses. What util-linux 2.38 has no command for is a comment that names the
//! call and its arguments.
//!
//! The script has stages, each a shell of its own: one on the host, one in the
//! new namespaces, and one wherever a command had to replace the shell to take
//! effect. A stage after the first is a here-document on a high descriptor, so
//! that standard input stays the command's. A step that changes the process
//! which becomes the command is a prefix of that command: prefixes are
//! collected in `$@`, in order, and executed at the end of their stage.
//!
//! - `fragment` has what each step is in a shell, with the `questions` that it
//!   asks of the whole plan;
//! - `writer` puts these into stages, and their comments beside them;
//! - `shell` quotes.

mod fragment;
mod questions;
mod shell;
mod writer;

use self::fragment::import;
pub use self::shell::quote;
use self::writer::Writer;
use crate::plan::Plan;
use crate::plan::describe::{asked_by, describe};
use crate::plan::step::Step;
use crate::source::Sources;

/// The script.
pub fn script(plan: &Plan, sources: &Sources) -> String {
    let mut writer = Writer::new(plan);
    for (index, planned) in plan.steps.iter().enumerate() {
        let why = asked_by(planned.origin, sources);
        let text = describe(&planned.step).replace('\n', " ");
        writer.step(&planned.step, &format!("{}. {text}  [{why}]", index + 1));
    }
    writer.finish()
}

/// The script for a plan that has to be made again when its first steps are
/// done: those, and the command that explains the rest.
pub fn preparation(plan: &Plan, sources: &Sources, again: &[String]) -> String {
    let mut out = String::from("#!/bin/sh\nset -eu\n\n");
    for planned in &plan.steps {
        if let Step::ImportImage { source } = &planned.step {
            let why = asked_by(planned.origin, sources);
            out.push_str(&format!("# {}  [{why}]\n", describe(&planned.step)));
            out.push_str(&format!("{}\n\n", import(source)));
        }
    }
    let words: Vec<_> = again.iter().map(|word| quote(word)).collect();
    out.push_str(
        "# The rest depends on what the image holds, and is explained when it is there.\n",
    );
    out.push_str(&format!("{} | sh\n", words.join(" ")));
    out
}
