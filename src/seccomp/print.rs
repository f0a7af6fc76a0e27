//! Printing policies and programs for people, and as a profile.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::compile::{
    AND, ARCH, ARGUMENTS, FOREIGN, IF_EQ, IF_GE, IF_GT, JUMP, LOAD, NUMBER, RETURN,
};
use super::policy::{Clause, Condition, Decision, Operator, Policy};
use super::{Action, Arch, ENOSYS, Filter, Instruction, table};

/// The kind of filter, its size and what it says to calls that it does not
/// list: computed from what is loaded.
pub fn summary(filter: &Filter) -> String {
    let policy = filter.policy();
    let kind = match filter {
        Filter::Preset { preset, .. } => format!("the {} filter", preset.word()),
        Filter::Own(_) => "the unit's own filter".to_owned(),
    };
    let (passing, all) = (policy.passing(), policy.named().count());
    format!(
        "{kind} for system calls: {passing} of {all} pass, the others get {}, in {} instructions",
        policy.default.word(),
        filter.program().len()
    )
}

/// The program, one instruction a line.
pub fn disassembly(policy: &Policy, program: &[Instruction]) -> String {
    let mut out = String::new();
    let mut loaded = NUMBER;
    for (index, it) in program.iter().enumerate() {
        let target = |skip: u32| index + 1 + usize::try_from(skip).unwrap_or(0);
        let compare = |sign: &str| {
            format!(
                "if {sign} {:#x} goto {} else {}",
                it.k,
                target(it.yes.into()),
                target(it.no.into())
            )
        };
        let text = match it.code {
            LOAD => {
                loaded = it.k;
                format!("load {}", word(it.k))
            }
            AND => format!("and {:#x}", it.k),
            JUMP => format!("goto {}", target(it.k)),
            IF_EQ => compare("=="),
            IF_GT => compare(">"),
            IF_GE => compare(">="),
            RETURN => format!("return {}", Action::of(it.k).word()),
            code => format!("{code:#x} {} {} {:#x}", it.yes, it.no, it.k),
        };
        let is_search = matches!(it.code, IF_EQ | IF_GE) && loaded == NUMBER;
        let comment = match it.code {
            IF_EQ if loaded == ARCH => Some(policy.arch.name().to_owned()),
            _ if is_search && policy.arch == Arch::X86_64 && it.k >= super::policy::X32 => {
                Some("numbers of x32".to_owned())
            }
            _ if is_search => table::name(policy.arch, it.k).map(str::to_owned),
            _ => None,
        };
        let comment = comment.map_or(String::new(), |comment| format!("  # {comment}"));
        out.push_str(&format!("{index:4}: {text}{comment}\n"));
    }
    out
}

fn word(offset: u32) -> String {
    match offset {
        NUMBER => "number".to_owned(),
        ARCH => "architecture".to_owned(),
        offset => {
            let half = if offset % 8 == 0 { "low" } else { "high" };
            format!("argument {} ({half})", offset.saturating_sub(ARGUMENTS) / 8)
        }
    }
}

/// The policy by action, mildest first.
pub fn pseudo(policy: &Policy) -> String {
    let mut by_action: BTreeMap<Action, Vec<&str>> = BTreeMap::new();
    let mut depends = String::new();
    for (name, decision) in policy.named() {
        match decision {
            Decision::Always(action) => by_action.entry(action).or_default().push(name),
            Decision::Depends(clauses, otherwise) => {
                depends.push_str(&format!("\n{name}:\n"));
                for clause in &clauses {
                    depends.push_str(&format!(
                        "  {} if {}\n",
                        clause.action.word(),
                        clause.conditions.iter().map(condition).collect::<Vec<_>>().join(" and ")
                    ));
                }
                depends.push_str(&format!("  {} otherwise\n", otherwise.word()));
            }
        }
    }
    let mut out = format!(
        "architecture {}; another convention of calls: {}\n",
        policy.arch.name(),
        FOREIGN.word()
    );
    if policy.arch == Arch::X86_64 {
        out.push_str(&format!("numbers of x32: {}\n", Action::Errno(ENOSYS).word()));
    }
    out.push_str(&format!("numbers without a name: {}\n", policy.unknown.word()));
    for (action, names) in by_action {
        out.push_str(&format!("\n{} ({}):\n{}", action.word(), names.len(), wrapped(&names)));
    }
    out + &depends
}

fn wrapped(names: &[&str]) -> String {
    let mut out = String::new();
    let mut line = String::from(" ");
    for name in names {
        if line.len() + 1 + name.len() > 78 {
            out.push_str(&line);
            out.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    out + &line + "\n"
}

fn condition(it: &Condition) -> String {
    let what = match it.wide {
        true => format!("argument {}", it.argument),
        false => format!("argument {} (32 bits)", it.argument),
    };
    let value = it.value;
    match it.operator {
        Operator::Eq => format!("{what} == {value:#x}"),
        Operator::Ne => format!("{what} != {value:#x}"),
        Operator::Lt => format!("{what} < {value:#x}"),
        Operator::Le => format!("{what} <= {value:#x}"),
        Operator::Gt => format!("{what} > {value:#x}"),
        Operator::Ge => format!("{what} >= {value:#x}"),
        Operator::MaskedEq(mask) => format!("{what} & {mask:#x} == {value:#x}"),
    }
}

/// The policy as a profile for OCI runtimes. What those cannot say is left to
/// them: the answers to numbers without a name, and to other conventions.
pub fn profile(policy: &Policy) -> Value {
    let mut plain: BTreeMap<Action, Vec<&str>> = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, decision) in policy.named() {
        match decision {
            Decision::Always(action) if action == policy.default => {}
            Decision::Always(action) => plain.entry(action).or_default().push(name),
            Decision::Depends(clauses, otherwise) => {
                entries.extend(conditional(name, &clauses, otherwise, policy.default));
            }
        }
    }
    let syscalls: Vec<Value> = plain
        .into_iter()
        .map(|(action, names)| entry(&names, action, Vec::new()))
        .chain(entries)
        .collect();
    let architecture = match policy.arch {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    let mut profile = json!({
        "defaultAction": verb(policy.default),
        "architectures": [architecture],
        "syscalls": syscalls,
    });
    if let Action::Errno(errno) = policy.default {
        profile["defaultErrnoRet"] = errno.into();
    }
    profile
}

/// Entries for a call that depends on its arguments. To libseccomp an entry
/// without arguments outweighs those with some: where not the default holds
/// otherwise, the entries list what is left.
fn conditional(name: &str, clauses: &[Clause], otherwise: Action, default: Action) -> Vec<Value> {
    if otherwise == default {
        return clauses
            .iter()
            .filter(|clause| clause.action != default)
            .map(|clause| {
                entry(&[name], clause.action, clause.conditions.iter().map(argument).collect())
            })
            .collect();
    }
    let values: Option<Vec<(u8, u32)>> = clauses
        .iter()
        .map(|clause| match &clause.conditions[..] {
            [Condition { argument, wide: false, operator: Operator::Eq, value }]
                if clause.action == default =>
            {
                Some((*argument, u32::try_from(*value).ok()?))
            }
            _ => None,
        })
        .collect();
    match values.as_deref() {
        Some(values @ [(index, _), ..]) if values.iter().all(|(other, _)| other == index) => {
            let values: Vec<u32> = values.iter().map(|(_, value)| *value).collect();
            let mut rest = Vec::new();
            all_but(&values, 32, 0, &mut rest);
            rest.into_iter()
                .map(|(mask, value)| {
                    let operator = Operator::MaskedEq(mask.into());
                    let condition = Condition::low(*index, operator, value);
                    entry(&[name], otherwise, vec![argument(&condition)])
                })
                .collect()
        }
        _ => {
            // In order; what holds otherwise comes last.
            let some = clauses.iter().map(|clause| {
                entry(&[name], clause.action, clause.conditions.iter().map(argument).collect())
            });
            some.chain([entry(&[name], otherwise, Vec::new())]).collect()
        }
    }
}

/// Masks and values that together fit every number with the given upper bits
/// but some.
fn all_but(values: &[u32], bits: u32, prefix: u32, out: &mut Vec<(u32, u32)>) {
    let mask = u32::MAX.checked_shl(bits).unwrap_or(0);
    let below: Vec<u32> =
        values.iter().copied().filter(|value| value & mask == prefix & mask).collect();
    if below.is_empty() {
        out.push((mask, prefix));
    } else if bits > 0 {
        all_but(&below, bits - 1, prefix, out);
        all_but(&below, bits - 1, prefix | 1 << (bits - 1), out);
    }
}

fn entry(names: &[&str], action: Action, args: Vec<Value>) -> Value {
    let mut entry = json!({ "names": names, "action": verb(action) });
    if let Action::Errno(errno) = action {
        entry["errnoRet"] = errno.into();
    }
    if !args.is_empty() {
        entry["args"] = args.into();
    }
    entry
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::Log => "SCMP_ACT_LOG",
        Action::Errno(_) => "SCMP_ACT_ERRNO",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
    }
}

fn argument(condition: &Condition) -> Value {
    let keep = if condition.wide { u64::MAX } else { u64::from(u32::MAX) };
    let simple =
        |op: &str| json!({ "index": condition.argument, "value": condition.value, "op": op });
    let masked = |mask: u64| {
        json!({
            "index": condition.argument,
            "value": mask & keep,
            "valueTwo": condition.value,
            "op": "SCMP_CMP_MASKED_EQ",
        })
    };
    match condition.operator {
        Operator::MaskedEq(mask) => masked(mask),
        Operator::Eq if !condition.wide => masked(keep),
        Operator::Eq => simple("SCMP_CMP_EQ"),
        Operator::Ne => simple("SCMP_CMP_NE"),
        Operator::Lt => simple("SCMP_CMP_LT"),
        Operator::Le => simple("SCMP_CMP_LE"),
        Operator::Gt => simple("SCMP_CMP_GT"),
        Operator::Ge => simple("SCMP_CMP_GE"),
    }
}
