//! `jailrun audit`: what a jail could still do, worst first, with the key that
//! closes each opening.
//!
//! Another reading of the plan: [`facts`] are read off its steps, [`findings`]
//! judge them by [`weights`], and [`answers`] say in sentences what people ask.
//! Nothing is launched, and nothing changed.

pub mod answers;
pub mod facts;
pub mod findings;
pub mod weights;

use std::fmt::Write as _;

use serde_json::{Value, json};

use self::answers::Answer;
use self::facts::Facts;
use self::findings::Finding;
use crate::host::Host;
use crate::plan::Plan;
use crate::plan::step::Origin;
use crate::source::Sources;

/// The report about one plan.
#[derive(Debug)]
pub struct Audit {
    /// Name of the jail.
    pub name: String,
    /// From 0 to 10.
    pub exposure: f64,
    /// Openings, heaviest first.
    pub findings: Vec<Finding>,
    /// Questions and answers.
    pub answers: Vec<Answer>,
}

/// Judges a plan.
pub fn audit(plan: &Plan, host: &impl Host) -> Audit {
    let mut facts = Facts::of(plan);
    facts.look_inside(host);
    let findings = findings::find(&facts, host);
    Audit {
        name: plan.name.clone(),
        exposure: findings::exposure(&findings),
        answers: answers::answers(&facts, &findings, host),
        findings,
    }
}

fn place(origin: Option<Origin>, sources: &Sources) -> Option<String> {
    match origin? {
        Origin::Key(span) => Some(sources.place(span)),
        Origin::Image(key) => Some(format!("{key} of the image")),
        Origin::Default(_) | Origin::Arguments | Origin::Always(_) => None,
    }
}

impl Audit {
    /// The report for people.
    pub fn text(&self, unit: &str, sources: &Sources) -> String {
        let mut out = String::new();
        self.write(unit, sources, &mut out).expect("writing to a String cannot fail");
        out
    }

    fn write(&self, unit: &str, sources: &Sources, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{unit}: exposure {:.1} of 10", self.exposure)?;
        if !self.findings.is_empty() {
            writeln!(out, "\n  chance  what it could still do, and the key that closes it")?;
        }
        for finding in &self.findings {
            let percent = (finding.weight.chance * 100.0).round();
            writeln!(out, "  {percent:>5}%  {}", finding.what)?;
            write!(out, "          {}", finding.close)?;
            match place(finding.origin, sources) {
                Some(place) => writeln!(out, "  ({place})")?,
                None => writeln!(out)?,
            }
        }
        out.push('\n');
        for answer in &self.answers {
            writeln!(
                out,
                "  Can it {}? {}: {}.",
                answer.question,
                sentence(answer.verdict.word()),
                answer.because
            )?;
        }
        Ok(())
    }

    /// The report for programs.
    pub fn json(&self, unit: &str, sources: &Sources) -> Value {
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "name": finding.weight.name,
                    "chance": finding.weight.chance,
                    "what": finding.what,
                    "key": finding.key,
                    "close": finding.close,
                    "place": place(finding.origin, sources),
                })
            })
            .collect();
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|answer| {
                json!({
                    "question": format!("can it {}?", answer.question),
                    "answer": answer.verdict.word(),
                    "because": answer.because,
                })
            })
            .collect();
        json!({
            "unit": unit,
            "name": self.name,
            "exposure": self.exposure,
            "findings": findings,
            "answers": answers,
        })
    }
}

/// First letter upper-case.
fn sentence(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map_or(String::new(), |first| first.to_uppercase().to_string());
    format!("{first}{}", letters.as_str())
}

/// Every weight with its reason, heaviest first.
pub fn weights_text() -> String {
    let mut all = weights::ALL.to_vec();
    all.sort_by(|one, other| other.chance.total_cmp(&one.chance));
    let width = all.iter().map(|weight| weight.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for weight in all {
        let percent = (weight.chance * 100.0).round();
        writeln!(out, "{percent:>3}%  {:<width$}  {}", weight.name, weight.reason)
            .expect("writing to a String cannot fail");
    }
    out
}

/// The same for programs.
pub fn weights_json() -> Value {
    weights::ALL
        .iter()
        .map(|weight| {
            json!({ "name": weight.name, "chance": weight.chance, "reason": weight.reason })
        })
        .collect()
}
