//! Tests of the policies: against the kernel's rules and against libseccomp.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::interpret::{Call, run};
use super::table::ROWS;
use super::*;

fn decide(program: &[Instruction], arch: Arch, number: u32, arguments: [u64; 6]) -> Action {
    run(program, Call { number, arch: arch.audit(), arguments }).expect("a sound program").0
}

/// Numbers of which a search could go wrong.
fn numbers() -> impl Iterator<Item = u32> {
    (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x4000_01ff, u32::MAX - 1, u32::MAX])
}

#[test]
fn the_table_is_sorted_and_no_number_is_given_twice() {
    for pair in ROWS.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
    }
    for arch in Arch::ALL {
        let mut seen = std::collections::BTreeMap::new();
        for row in ROWS {
            let Some(number) = row.number(arch) else { continue };
            assert!(usize::from(number) < table::LIMIT, "{}", row.name);
            if let Some(other) = seen.insert(number, row.name) {
                panic!("{} and {other} have the number {number} on {}", row.name, arch.name());
            }
            assert_eq!(table::name(arch, number.into()), Some(row.name));
        }
    }
    for row in ROWS {
        assert_eq!(table::find(row.name).map(|found| found.name), Some(row.name));
    }
}

#[test]
fn sets_hold_known_calls() {
    for set in sets::names() {
        let members = sets::members(set);
        assert!(!members.is_empty(), "{set}");
        for name in members {
            assert!(table::find(name).is_some(), "{set} names `{name}`");
        }
    }
}

#[test]
fn the_programs_in_the_source_are_the_compilers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/programs.rs");
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = "// Generated from here on.\n";
    let (head, _) = text.split_once(mark).unwrap();
    let mut wanted = format!("{head}{mark}");
    for (index, arch) in Arch::ALL.into_iter().enumerate() {
        let program = compile(&Policy::preset(arch, Preset::Default, 0));
        let gap = if index == 0 { "" } else { "\n" };
        let name = arch.name().to_uppercase();
        writeln!(wanted, "{gap}#[rustfmt::skip]").unwrap();
        writeln!(wanted, "static {name}: [Instruction; {}] = [", program.len()).unwrap();
        for it in program {
            writeln!(wanted, "    i({:#04x}, {}, {}, {:#x}),", it.code, it.yes, it.no, it.k)
                .unwrap();
        }
        wanted.push_str("];\n");
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(text == wanted, "src/seccomp/programs.rs is out of date: run this test with UPDATE=1");
}

#[test]
fn the_default_program_is_short() {
    for arch in Arch::ALL {
        let program = compile(&Policy::preset(arch, Preset::Default, 0));
        assert!(program.len() <= 210, "{}: {}", arch.name(), program.len());
        let longest = numbers()
            .map(|number| {
                let call = Call { number, arch: arch.audit(), arguments: [0; 6] };
                run(&program, call).unwrap().1
            })
            .max();
        assert!(longest <= Some(20), "{}: {longest:?} for one call", arch.name());
    }
}

/// Values around those that filters compare with.
fn argument() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        8,
        10,
        16,
        17,
        0x5412,
        0x541c,
        0x2_0008,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
    ];
    prop_oneof![
        any::<u64>(),
        prop::sample::select(edges.clone()),
        (prop::sample::select(edges), any::<u32>())
            .prop_map(|(low, high)| low | u64::from(high) << 32),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        (1_u16..4096).prop_map(Action::Errno),
        Just(Action::Trap),
        Just(Action::KillThread),
        Just(Action::KillProcess),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let operator = prop_oneof![
        Just(Operator::Eq),
        Just(Operator::Ne),
        Just(Operator::Lt),
        Just(Operator::Le),
        Just(Operator::Gt),
        Just(Operator::Ge),
        argument().prop_map(Operator::MaskedEq),
    ];
    (0_u8..6, any::<bool>(), operator, argument())
        .prop_map(|(argument, wide, operator, value)| Condition { argument, wide, operator, value })
}

fn clauses() -> impl Strategy<Value = Vec<Clause>> {
    let clause = (prop::collection::vec(condition(), 0..4), any_action())
        .prop_map(|(conditions, action)| Clause { conditions, action });
    prop::collection::vec(clause, 0..6)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule = (0..ROWS.len(), any_action());
    let check = (0..ROWS.len(), clauses(), any_action());
    (
        prop::sample::select(&Arch::ALL[..]),
        any_action(),
        any_action(),
        prop::collection::vec(rule, 0..300),
        prop::collection::vec(check, 0..40),
    )
        .prop_map(|(arch, default, unknown, rules, checks)| {
            let mut policy = Policy::new(arch, default);
            policy.unknown = unknown;
            for (row, action) in rules {
                policy.set(ROWS[row].name, action);
            }
            for (row, clauses, otherwise) in checks {
                policy.check(ROWS[row].name, clauses, otherwise);
            }
            policy
        })
}

/// The program answers as the policy decides: for every number, with the given
/// arguments and with those that the policy's own conditions name.
fn agrees(policy: &Policy, arguments: &[[u64; 6]]) {
    let program = compile(policy);
    assert!(program.len() <= MAX_INSTRUCTIONS, "{}", program.len());
    for number in numbers() {
        let decision = policy.decision(number);
        // Where arguments do not matter, one set of them will do.
        let mut sets = arguments[..1].to_vec();
        if let Decision::Depends(clauses, _) = &decision {
            sets = arguments.to_vec();
            for condition in clauses.iter().flat_map(|clause| &clause.conditions) {
                for value in [condition.value, !condition.value, condition.value.wrapping_add(1)] {
                    for mut set in arguments.iter().copied() {
                        set[usize::from(condition.argument)] = value;
                        sets.push(set);
                    }
                }
            }
        }
        for arguments in sets {
            assert_eq!(
                decide(&program, policy.arch, number, arguments),
                decision.action(&arguments),
                "number {number} with {arguments:x?}"
            );
        }
    }
    // Another convention is refused whatever its number means.
    for number in [0, 1, 59, 231] {
        let call = Call { number, arch: 0x4000_0003, arguments: [0; 6] };
        assert_eq!(run(&program, call).unwrap().0, Action::KillProcess);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn programs_decide_as_their_policies(
        policy in any_policy(),
        arguments in prop::collection::vec(prop::array::uniform6(argument()), 1..4),
    ) {
        agrees(&policy, &arguments);
    }

    #[test]
    fn presets_decide_as_their_programs(
        capabilities in any::<u64>(),
        strict in any::<bool>(),
        arguments in prop::collection::vec(prop::array::uniform6(argument()), 1..4),
    ) {
        let preset = if strict { Preset::Strict } else { Preset::Default };
        for arch in Arch::ALL {
            agrees(&Policy::preset(arch, preset, capabilities), &arguments);
        }
    }
}
